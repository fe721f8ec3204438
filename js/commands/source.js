"use strict"

// What can be sent as bytes: as it is, piece by piece, and again where that goes.

const { types } = require("node:util")
const { misuse } = require("./errors.js")

/** Of what is all there, so many bytes go at a time. */
const PIECE = 256 * 1024

class Source {
  #open

  /**
   * @param {() => AsyncIterable<Uint8Array> | Iterable<Uint8Array>} open
   * @param {{size?: number, again: boolean, bytes?: Uint8Array}} about it: how many bytes it has, where that is known, whether
   *   it can be read more than once, and all its bytes, where they are there
   */
  constructor(open, { size, again, bytes }) {
    this.#open = open
    this.size = size
    this.again = again
    this.bytes = bytes
  }

  /** Its bytes, from the first. */
  async *[Symbol.asyncIterator]() {
    for await (const piece of this.#open()) {
      if (typeof piece === "string") yield Buffer.from(piece)
      else if (types.isUint8Array(piece)) yield* pieces(piece)
      else throw misuse(`a body's pieces are Uint8Arrays, and one is ${piece === null ? "null" : `a ${typeof piece}`}`)
    }
  }

  /** Lets go of what was opened for us and will not be read. */
  discard(value) {
    if (!this.again) Promise.resolve(typeof value.destroy === "function" ? value.destroy() : value.cancel?.()).catch(() => {})
  }
}

function* pieces(bytes) {
  for (let at = 0; at < bytes.length; at += PIECE) yield bytes.subarray(at, at + PIECE)
}

/** Bytes as a source. */
function ofBytes(bytes) {
  return new Source(() => [bytes], { size: bytes.length, again: true, bytes })
}

/**
 * What is bytes, as a source: a Uint8Array, an ArrayBuffer, a Blob, a stream of Node or of the web, or whatever else gives
 * Uint8Arrays one after the other. Undefined for all other values, which are JSON.
 */
function sourceOf(value) {
  if (typeof value !== "object" || value === null) return undefined
  if (types.isUint8Array(value)) return ofBytes(value)
  if (types.isAnyArrayBuffer(value)) return ofBytes(new Uint8Array(value))
  if (typeof value.stream === "function" && typeof value.arrayBuffer === "function" && typeof value.size === "number") {
    return new Source(() => value.stream(), { size: value.size, again: true })
  }
  if (typeof value[Symbol.asyncIterator] === "function") return new Source(() => value, { again: false })
  return undefined
}

/** All bytes of a source that has at most so many; undefined where it has more. */
async function collect(source, most) {
  const all = []
  let size = 0
  for await (const piece of source) {
    size += piece.length
    if (size > most) return undefined
    all.push(Buffer.from(piece))
  }
  return Buffer.concat(all, size)
}

module.exports = { collect, ofBytes, sourceOf }
