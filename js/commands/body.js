"use strict"

// Bodies: parameters and results, as JSON in UTF-8 or as bytes, in a message or, when too large for one, beside it.

const { constants } = require("node:buffer")
const { createHash } = require("node:crypto")
const { Readable } = require("node:stream")
const { CommandError, misuse } = require("./errors.js")
const { Unreachable, isTransient, refusal } = require("./http.js")
const { ofBytes, sourceOf } = require("./source.js")
const { Backoff, pause } = require("./time.js")

/** What travels in a message, in bytes before base64. */
const INLINE_MAX = 150_000
const RETRY = [100, 2000]
/** How often a body is sent, or asked for without a byte of it coming, before that is given up. */
const TRIES = 6
/** In what a result is wanted. */
const FORMS = ["json", "bytes", "stream"]
const UTF8 = new TextDecoder("utf-8", { fatal: true })

/** A value as JSON; `undefined` is null. What JSON cannot hold throws a TypeError. */
function encode(value) {
  const text = JSON.stringify(value === undefined ? null : value)
  // Functions and symbols are no JSON at all, and JSON.stringify says so by giving nothing.
  if (text === undefined) throw new TypeError(`a ${typeof value} cannot be JSON`)
  return Buffer.from(text)
}

/** A value as what is sent: bytes as they are, anything else as JSON. */
function toSource(value) {
  return sourceOf(value) ?? ofBytes(encode(value))
}

const inline = (bytes) => ({ mode: "inline", inlineBase64: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("base64") })

/**
 * The value that a body holds, in one of the {@link FORMS}.
 *
 * @param {any} body
 * @param {"json" | "bytes" | "stream"} as
 * @param {{connection: import("./http.js").Connection, signal?: AbortSignal, token?: () => string, renew?: () => Promise<any>}} how
 *   for an address that is not good any more: a token, which the manager takes instead, and `renew`, which gives the body
 *   with another
 */
async function decode(body, as, how) {
  if (body?.mode === "inline" && typeof body.inlineBase64 === "string") {
    const bytes = Buffer.from(body.inlineBase64, "base64")
    if (as === "stream") return sized(Readable.from([bytes], { objectMode: false }), bytes.length)
    return as === "bytes" ? bytes : read(bytes)
  }
  if (body?.mode !== "storage" || body.storageGetRequest === undefined) {
    throw undecodable(`a body of mode ${JSON.stringify(body?.mode)} is none that this version can read`)
  }
  if (as === "stream") return sized(streamed(body, how), body.size ?? undefined)
  if (as === "json" && body.size > constants.MAX_STRING_LENGTH) {
    throw undecodable(`its ${body.size} bytes are more than a text can have`)
  }
  const all = []
  for await (const piece of download(body, how)) all.push(piece)
  const bytes = Buffer.concat(all)
  return as === "bytes" ? bytes : read(bytes)
}

/** A download as a stream; one that is destroyed ends its connection at once, whatever that waits for. */
function streamed(body, { signal, ...how }) {
  const end = new AbortController()
  const abort = () => end.abort(signal.reason)
  if (signal?.aborted) abort()
  signal?.addEventListener("abort", abort)
  const stream = Readable.from(download(body, { ...how, signal: end.signal }), { objectMode: false })
  stream.once("close", () => {
    signal?.removeEventListener("abort", abort)
    end.abort()
  })
  return stream
}

function sized(stream, size) {
  return Object.assign(stream, { size })
}

function read(bytes) {
  try {
    // An empty body is what some senders mean by none.
    return bytes.length === 0 ? null : JSON.parse(UTF8.decode(bytes))
  } catch {
    // Node's words quote the text, which may be secret.
    throw undecodable(`its ${bytes.length} bytes are not JSON in UTF-8`)
  }
}

function undecodable(message) {
  return new CommandError({ code: "BODY_INVALID", message, httpStatusCode: 400 })
}

/** A form that a result is wanted in, checked. */
function form(as = "json") {
  if (FORMS.includes(as)) return as
  throw misuse(`as is one of ${FORMS.map((name) => `"${name}"`).join(", ")}, not ${JSON.stringify(as)}`)
}

/** The bytes of a body in a store, from where they stopped where a connection is cut, and checked at their end. */
async function* download(body, { connection, signal, token, renew }) {
  const hash = createHash("sha256")
  const backoff = new Backoff(...RETRY)
  let request = body.storageGetRequest
  let got = 0
  let tag
  let bearer = late(request, connection) ? token?.() : undefined
  for (let tries = 1; ; tries++) {
    let error
    try {
      const range = got === 0 ? {} : { range: `bytes=${got}-`, ...(tag === undefined ? {} : { "if-range": tag }) }
      const { method, url, headers } = backend(request)
      const answer = await connection.open(method, url, { headers: { ...headers, ...range }, token: bearer, signal })
      if (answer.status === 200 || answer.status === 206) {
        // Strong tags alone say that the bytes are the same.
        tag = answer.headers.etag?.startsWith('"') ? answer.headers.etag : undefined
        let skip = answer.status === 200 ? got : 0
        for await (const piece of answer.body) {
          const fresh = piece.subarray(Math.min(skip, piece.length))
          skip -= piece.length - fresh.length
          if (fresh.length === 0) continue
          hash.update(fresh)
          got += fresh.length
          tries = 0
          backoff.reset()
          yield fresh
        }
        check(body, got, hash)
        return
      }
      answer.close()
      error = storeError(answer.status)
      if (answer.status === 403 && bearer === undefined && token !== undefined && connection.isOwn(url)) {
        bearer = token()
        continue
      }
      const stale = answer.status === 403 && renew !== undefined
      if (stale) request = (await renew()).storageGetRequest
      if (!stale && !isTransient(answer)) throw error
    } catch (thrown) {
      if (!(thrown instanceof Unreachable)) throw thrown
      error = thrown
    }
    if (tries >= TRIES) throw error
    await pause(backoff.next(), signal)
    signal?.throwIfAborted()
  }
}

function check({ size, sha256 }, got, hash) {
  const wrong = size !== undefined && size !== null && size !== got ? `it has ${got} bytes instead of ${size}` : undefined
  const changed = typeof sha256 === "string" && sha256.toLowerCase() !== hash.digest("hex") ? "its SHA-256 is another than was said" : undefined
  if (wrong === undefined && changed === undefined) return
  throw new CommandError({ code: "BODY_CORRUPT", message: `a body is not what was sent: ${wrong ?? changed}`, httpStatusCode: 502 })
}

/**
 * Puts a source where a presigned request says; a source that can be read again is sent again where a connection is cut, others
 * only until their first byte was wanted. Where the address is not good any more, the manager takes a token instead. Gives how
 * many bytes there were.
 */
async function upload(request, source, { connection, signal, token }) {
  const { method, url, headers } = backend(request)
  const backoff = new Backoff(...RETRY)
  let bearer = late(request, connection) ? token?.() : undefined
  for (let tries = 1; ; tries++) {
    const hash = createHash("sha256")
    let size = 0
    let begun = false
    const counted = (async function* () {
      for await (const piece of source) {
        hash.update(piece)
        size += piece.length
        yield piece
      }
    })()
    let error
    try {
      const answer = await connection.upload(method, url, { headers, token: bearer, length: source.size, iterator: counted, begin: () => (begun = true), signal })
      if (answer.status < 300) {
        const kept = answer.json?.sha256
        if (typeof kept !== "string" || kept === hash.digest("hex")) return size
        error = new CommandError({ code: "BODY_CORRUPT", message: "the store has other bytes than were sent", retryable: true, httpStatusCode: 502 })
      } else {
        if (answer.status === 403 && bearer === undefined && token !== undefined && (source.again || !begun) && connection.isOwn(url)) {
          bearer = token()
          continue
        }
        error = refusal("a body", answer)
        if (!isTransient(answer) && answer.status !== 408) throw error
      }
    } catch (thrown) {
      if (!(thrown instanceof Unreachable)) throw thrown
      error = thrown
    }
    if (tries >= TRIES || (begun && !source.again)) throw error
    await pause(backoff.next(), signal)
    signal?.throwIfAborted()
  }
}

/** Whether an address of the manager's own is not good any more, by our clock: whoever cannot send twice had better know before. */
function late(request, connection) {
  const { url } = backend(request)
  return connection.isOwn(url) && Date.parse(request.expiration) <= Date.now()
}

/** How a presigned request is made: `{backend: {type: "http", url, method, headers}}`. */
function backend(request) {
  const { backend } = request ?? {}
  if (backend?.type === "http") return backend
  throw undecodable(`a store of type ${JSON.stringify(backend?.type)} cannot be reached from here`)
}

function storeError(status) {
  return new CommandError({ code: "STORE_HTTP_ERROR", message: `the store answered with ${status}`, retryable: status >= 500, httpStatusCode: status })
}

module.exports = { INLINE_MAX, decode, encode, form, inline, toSource, upload }
