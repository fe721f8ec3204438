"use strict"

// Bodies: parameters and results, as JSON in UTF-8, in a message or, when too large for one, in a store beside it.

const { CommandError } = require("./errors.js")

/** What travels in a message, in bytes before base64. */
const INLINE_MAX = 150_000
const STORE_MS = 10 * 60_000

/** A value as JSON; `undefined` is null. What JSON cannot hold throws a TypeError. */
function encode(value) {
  const text = JSON.stringify(value === undefined ? null : value)
  // Functions and symbols are no JSON at all, and JSON.stringify says so by giving nothing.
  if (text === undefined) throw new TypeError(`a ${typeof value} cannot be JSON`)
  return Buffer.from(text)
}

const inline = (bytes) => ({ mode: "inline", inlineBase64: bytes.toString("base64") })

/**
 * The value that a body holds.
 *
 * @param {any} body
 * @param {import("./http.js").Connection} connection for bodies in a store
 * @param {AbortSignal} [signal]
 */
async function decode(body, connection, signal) {
  if (body?.mode === "inline" && typeof body.inlineBase64 === "string") return read(Buffer.from(body.inlineBase64, "base64"))
  if (body?.mode === "storage" && body.storageGetRequest !== undefined) {
    return read((await presigned(body.storageGetRequest, { connection, signal })).bytes)
  }
  throw undecodable(`a body of mode ${JSON.stringify(body?.mode)} is none that this version can read`)
}

function read(bytes) {
  try {
    // An empty body is what some senders mean by none.
    return bytes.length === 0 ? null : JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes))
  } catch {
    // Node's words quote the text, which may be secret.
    throw undecodable(`its ${bytes.length} bytes are not JSON in UTF-8`)
  }
}

function undecodable(message) {
  return new CommandError({ code: "BODY_INVALID", message, httpStatusCode: 400 })
}

/** Does what a presigned request says: `{backend: {type: "http", url, method, headers}}`. */
async function presigned({ backend }, { connection, signal, body }) {
  if (backend?.type !== "http") throw undecodable(`a store of type ${JSON.stringify(backend?.type)} cannot be reached from here`)
  const answer = await connection.call(backend.method, backend.url, { headers: backend.headers, body, signal, timeoutMs: STORE_MS })
  if (answer.status >= 200 && answer.status < 300) return answer
  throw new CommandError({ code: "STORE_HTTP_ERROR", message: `the store answered with ${answer.status}`, retryable: answer.status >= 500 })
}

module.exports = { INLINE_MAX, decode, encode, inline, presigned }
