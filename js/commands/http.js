"use strict"

// Calls of a manager: JSON over HTTP.

const { CommandError, misuse } = require("./errors.js")
const { SourceFailed, receive, send } = require("./transfer.js")
const { Server } = require("./wire.js")

/** No answer came: the manager is away, or the way to it is. */
class Unreachable extends CommandError {
  constructor(url, why) {
    super({ code: "MANAGER_UNREACHABLE", message: `the manager at ${url.origin} does not answer: ${why}`, retryable: true, httpStatusCode: 503 })
  }
}

/** What needs no encoding in a path or query, as all that we ask for ourselves. */
const PLAIN = /^[\w./~%?=&:-]*$/

/** A manager, and the connections to it. */
class Connection {
  #base
  #root
  #server
  #headers
  /** What every call of the manager begins with, and the token that it is for. */
  #common = { token: undefined, lines: undefined }

  /**
   * @param {string} address with or without the `/v1` that all calls begin with
   * @param {string | Buffer} [caFile] the certificates that a manager's own is signed with: their file, or themselves
   * @param {Record<string, string>} [headers] what every call of the manager says besides
   */
  constructor(address, caFile, headers = {}) {
    this.#base = parse(address)
    this.#root = `${this.#base.origin}/`
    this.#server = new Server(this.#base, caFile)
    // Where something between takes the prefix away, the manager has to know it for the addresses of bodies.
    const prefix = this.#base.pathname.slice(0, -1)
    this.#headers = { ...(prefix === "" ? {} : { "x-forwarded-prefix": prefix }), ...headers }
  }

  /** Where a call goes: `path` is absolute below the manager's address, or a whole URL. */
  url(path) {
    if (/^https?:/i.test(path)) return new URL(path)
    return new URL(`${this.#base.pathname}${path.replace(/^\//, "")}`, this.#base)
  }

  /**
   * One exchange. Any status is an answer; what is thrown is an {@link Unreachable} or the signal's reason.
   *
   * @param {string} method
   * @param {string} path
   * @param {{token?: string, json?: unknown, body?: Buffer, headers?: object, signal?: AbortSignal, timeoutMs: number}} how
   * @returns {Promise<{status: number, headers: object, bytes: Buffer, json: any}>}
   */
  async call(method, path, { token, json, body, headers, ...how }) {
    how.signal?.throwIfAborted()
    const { url, target, own, server } = this.#way(path)
    const sent = json === undefined ? body : JSON.stringify(json)
    const about = { ...headers }
    if (json !== undefined) about["content-type"] = "application/json"
    if (sent !== undefined || method !== "GET") about["content-length"] = sent === undefined ? 0 : Buffer.byteLength(sent)
    const head = heading(method, target, own ? this.#beginning(token) : lines({ host: url.host, ...ACCEPT }), about)
    try {
      const { status, headers, bytes } = await exchange(server, head, sent, how)
      return { status, headers, bytes, json: parseJson(bytes) }
    } catch (error) {
      throw how.signal?.aborted ? how.signal.reason : new Unreachable(url, reason(error))
    } finally {
      if (!own) server.close()
    }
  }

  /** Whether a call goes to the manager itself, which alone may see a token. */
  isOwn(path) {
    return this.#way(path).own
  }

  /**
   * Sends a body of any size, on a connection of its own. Any status is an answer; what is thrown is an
   * {@link Unreachable}, the signal's reason, or what the source has thrown.
   *
   * @param {{token?: string, headers?: object, length?: number, iterator: AsyncIterator<Uint8Array>, begin: () => void, signal?: AbortSignal}} how
   *   without a length it is sent in chunks; `begin` is called before the first byte is asked for
   */
  async upload(method, path, { token, headers, length, iterator, begin, signal }) {
    signal?.throwIfAborted()
    const { url, target, own, server } = this.#way(path)
    const framing = length === undefined ? { "transfer-encoding": "chunked" } : { "content-length": length }
    const about = { ...ACCEPT, ...headers, ...(own ? bearer(token) : {}), ...framing, expect: "100-continue", connection: "close" }
    const head = heading(method, target, lines({ host: url.host }), about)
    try {
      const { status, headers, bytes } = await send(server.connect(), head, iterator, { signal, chunked: length === undefined, begin })
      return { status, headers, json: parseJson(bytes) }
    } catch (error) {
      if (error instanceof SourceFailed) throw error.cause
      throw signal?.aborted ? signal.reason : new Unreachable(url, reason(error))
    }
  }

  /**
   * Asks for a body of any size, on a connection of its own: `{status, headers, body, close}` once the
   * answer has begun; it is read, or closed. Reading the body throws an {@link Unreachable} where the connection is cut.
   *
   * @param {{token?: string, headers?: object, signal?: AbortSignal}} how
   */
  async open(method, path, { token, headers, signal }) {
    signal?.throwIfAborted()
    const { url, target, own, server } = this.#way(path)
    const about = { accept: "*/*", ...headers, ...(own ? bearer(token) : {}), connection: "close" }
    const unreachable = (error) => (signal?.aborted ? signal.reason : new Unreachable(url, reason(error)))
    try {
      const { body, ...answer } = await receive(server.connect(), heading(method, target, lines({ host: url.host }), about), { signal })
      return { ...answer, body: guarded(body, unreachable) }
    } catch (error) {
      throw unreachable(error)
    }
  }

  /** What is not the manager's, such as a store with presigned URLs, gets neither its connections nor our token. */
  #way(path) {
    const plain = this.#plain(path)
    if (plain !== undefined) return { url: this.#base, target: plain, own: true, server: this.#server }
    const url = this.url(path)
    const own = url.origin === this.#base.origin
    return { url, target: `${url.pathname}${url.search}`, own, server: own ? this.#server : new Server(url) }
  }

  /** The path and query of a call of the manager, where they are seen without taking a URL apart. */
  #plain(path) {
    let target
    if (path.startsWith(this.#root)) target = path.slice(this.#root.length - 1)
    else if (!/^https?:/i.test(path)) target = `${this.#base.pathname}${path.startsWith("/") ? path.slice(1) : path}`
    else return undefined
    return PLAIN.test(target) && !target.includes("/.") ? target : undefined
  }

  /** What every call of the manager begins with. */
  #beginning(token) {
    if (this.#common.token !== token || this.#common.lines === undefined) {
      this.#common = { token, lines: lines({ host: this.#base.host, ...ACCEPT, ...this.#headers, ...bearer(token) }) }
    }
    return this.#common.lines
  }

  /** Closes what is kept open. */
  close() {
    this.#server.close()
  }
}

/** One exchange; again where a server closed a connection just as we took it. Whatever is sent here may be sent twice. */
async function exchange(server, head, body, how) {
  for (;;) {
    try {
      return await server.exchange(head, body, how)
    } catch (error) {
      if (!error.stale || how.signal?.aborted) throw error
    }
  }
}

const bearer = (token) => (token === undefined ? {} : { authorization: `Bearer ${token}` })

/** The same bytes; what goes wrong is told as `tell` has it. */
async function* guarded(body, tell) {
  try {
    yield* body
  } catch (error) {
    throw tell(error)
  }
}

const ACCEPT = { accept: "application/json" }

/** A request's head; `beginning` is its first headers, as they are sent. */
function heading(method, target, beginning, headers) {
  if (!/^[A-Z]+$/.test(method)) throw misuse(`there is no method ${JSON.stringify(method)}`)
  return `${method} ${target} HTTP/1.1\r\n${beginning}${lines(headers)}\r\n`
}

/** Headers as they are sent. */
function lines(headers) {
  let text = ""
  for (const [name, value] of Object.entries(headers)) {
    // Whoever could end a line could send what they like with our token.
    if (!/^[\w-]+$/.test(name) || !/^[\t\x20-\x7e]*$/.test(value)) throw misuse(`the header ${JSON.stringify(name)} has characters that none may have`)
    text += `${name}: ${value}\r\n`
  }
  return text
}

function parse(address) {
  const url = URL.canParse(address) ? new URL(address) : undefined
  if (url === undefined || !["http:", "https:"].includes(url.protocol)) {
    throw new CommandError({
      code: "INVALID_MANAGER_URL",
      message: `the manager's address is no http:// or https:// URL: ${JSON.stringify(address)}`,
      httpStatusCode: 400,
    })
  }
  if (url.username !== "" || url.password !== "") {
    const message = `the manager's address has a user in it, whom no manager knows: ${url.origin}`
    throw new CommandError({ code: "INVALID_MANAGER_URL", message, hint: "a token is what lets one in", httpStatusCode: 400 })
  }
  url.search = ""
  url.hash = ""
  url.pathname = `${url.pathname.replace(/\/+$/, "").replace(/\/v1$/, "")}/`
  return url
}

/** Node's errors of connections that were tried on several addresses have no message of their own. */
function reason(error) {
  return error.message || error.errors?.map(({ message }) => message).join("; ") || error.code || String(error)
}

function parseJson(bytes) {
  try {
    return JSON.parse(bytes.toString("utf8"))
  } catch {
    // A proxy's page, or no body at all: the status says enough.
    return undefined
  }
}

/** Whether asking again later may help: the manager is starting, ending or busy. */
function isTransient({ status }) {
  return status === 429 || status === 502 || status === 503 || status === 504
}

/** An answer that is none of those wanted, as an error. */
function refusal(what, { status, json }) {
  const said = typeof json?.message === "string" ? `: ${json.message}` : ""
  const code = typeof json?.code === "string" ? json.code : undefined
  return new CommandError({
    code: "MANAGER_HTTP_ERROR",
    message: `the manager answered ${what} with ${status}${code === undefined ? "" : ` ${code}`}${said}`,
    context: { status, ...(code === undefined ? {} : { managerCode: code }), ...(json?.details === undefined ? {} : { details: json.details }) },
    hint: HINTS[status],
    retryable: isTransient({ status }),
    httpStatusCode: status,
  })
}

const HINTS = {
  401: "its token is unknown, expired or revoked: make another with `alien token create`",
  403: "its token is for something else: `alien token list` shows what each is for",
}

/** Milliseconds that a busy manager asks to be left alone for. */
function retryAfter({ headers }) {
  const seconds = Number(headers["retry-after"])
  return Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : undefined
}

module.exports = { Connection, Unreachable, isTransient, refusal, retryAfter }
