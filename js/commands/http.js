"use strict"

// JSON over HTTP/1.1 with connections that are kept. Not fetch(), which takes twice the processor's time for each of these
// short exchanges.

const http = require("node:http")
const { CommandError } = require("./errors.js")

/** The largest answer that is read, in bytes. */
const ANSWER_MAX = 64 * 1024 * 1024
/** For the rest of an answer that has begun. */
const REST_MS = 5000

/** No answer came: the manager is away, or the way to it is. */
class Unreachable extends CommandError {
  constructor(url, why, stale) {
    super({ code: "MANAGER_UNREACHABLE", message: `the manager at ${url.origin} does not answer: ${why}`, retryable: true, httpStatusCode: 503 })
    // For us alone, and not to be shown.
    Object.defineProperty(this, "stale", { value: stale })
  }
}

/** A manager, and the connections to it. */
class Connection {
  #base
  #agent
  #request

  /** @param {string} address with or without the `/v1` that all calls begin with */
  constructor(address) {
    this.#base = parse(address)
    const secure = this.#base.protocol === "https:"
    // TLS takes longer to load than all of the rest, and plain HTTP needs none of it.
    const { Agent, request } = secure ? require("node:https") : http
    this.#agent = new Agent({ keepAlive: true, noDelay: true, scheduling: "lifo" })
    this.#request = request
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
  async call(method, path, how) {
    how.signal?.throwIfAborted()
    const url = this.url(path)
    try {
      return await this.#exchange(method, url, how)
    } catch (error) {
      // The server closed a connection just as we took it from those that were kept. Whatever is sent here may be sent twice.
      if (error.stale) return this.#exchange(method, url, how)
      throw error
    }
  }

  #exchange(method, url, { token, json, body = json === undefined ? undefined : Buffer.from(JSON.stringify(json)), headers, signal, timeoutMs }) {
    // What is not the manager's, such as a store with presigned URLs, gets neither its connections nor our token.
    const own = url.origin === this.#base.origin
    const send = own ? this.#request : (url.protocol === "https:" ? require("node:https") : http).request
    return new Promise((resolve, reject) => {
      const all = { accept: "application/json", ...headers }
      if (own && token !== undefined) all.authorization = `Bearer ${token}`
      if (json !== undefined) all["content-type"] = "application/json"
      if (body !== undefined) all["content-length"] = body.length
      const request = send(url, { method, headers: all, agent: own ? this.#agent : undefined })
      let answering = false
      let timer = setTimeout(() => request.destroy(new Error(`nothing came within ${timeoutMs / 1000} s`)), timeoutMs)
      // An answer that has begun is read: it may hold a command that is ours by now.
      const abort = () => {
        if (!answering) request.destroy(new Error("aborted"))
      }
      const end = (settle, value) => {
        clearTimeout(timer)
        signal?.removeEventListener("abort", abort)
        settle(value)
      }
      const fail = (error) => {
        if (signal?.aborted) return end(reject, signal.reason)
        const stale = request.reusedSocket && !answering && ["ECONNRESET", "EPIPE"].includes(error.code)
        end(reject, new Unreachable(url, reason(error), stale))
      }
      signal?.addEventListener("abort", abort, { once: true })
      request.on("error", fail)
      request.on("response", (response) => {
        answering = true
        clearTimeout(timer)
        timer = setTimeout(() => request.destroy(new Error(`an answer stopped for ${REST_MS / 1000} s`)), REST_MS)
        const chunks = []
        let size = 0
        response.on("data", (chunk) => {
          timer.refresh()
          size += chunk.length
          if (size > ANSWER_MAX) request.destroy(new Error(`an answer has more than ${ANSWER_MAX} bytes`))
          else chunks.push(chunk)
        })
        response.on("error", fail)
        response.on("end", () => {
          const bytes = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks)
          end(resolve, { status: response.statusCode, headers: response.headers, bytes, json: parseJson(bytes) })
        })
      })
      request.end(body)
    })
  }

  /** Closes what is kept open. */
  close() {
    this.#agent.destroy()
  }
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
