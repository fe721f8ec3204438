"use strict"

// One answer of HTTP/1.1 (RFC 9112), read from its bytes as they come.

/** More than any manager or proxy sends, in bytes. */
const HEAD_MAX = 64 * 1024
const LINE_MAX = 4096
/** The largest answer that is read, in bytes. */
const BODY_MAX = 64 * 1024 * 1024
const NOTHING = Buffer.alloc(0)
const END_OF_LINE = "\r\n"
const END_OF_HEAD = "\r\n\r\n"

class Answer {
  #unread = NOTHING
  #step = "head"
  #left = 0
  #pieces = []
  #size = 0
  #take
  status
  headers
  /** Whether the connection can be used again. */
  keep = false
  /** Whether "go on" has come, for which a request may wait before it sends its body. */
  goesOn = false

  /** @param {(piece: Buffer) => void} [take] gets the body's pieces as they come; then none are kept, and there may be any number */
  constructor(take) {
    this.#take = take
  }

  /**
   * Takes more bytes; gives whether that was all.
   *
   * @throws {Error} what is not an answer, or too large
   */
  take(chunk) {
    this.#unread = this.#unread.length === 0 ? chunk : Buffer.concat([this.#unread, chunk])
    while (this.#step !== "done" && this[STEPS[this.#step]]());
    if (this.#step !== "done") return false
    // Nobody has asked for more.
    if (this.#unread.length > 0) this.keep = false
    return true
  }

  /** The connection has ended; gives whether the answer is whole. */
  end() {
    return this.#step === "untilClosed"
  }

  get bytes() {
    return this.#pieces.length === 1 ? this.#pieces[0] : Buffer.concat(this.#pieces)
  }

  // Each step gives whether it got on; if not, it waits for more bytes.

  readHead() {
    const end = this.#unread.indexOf(END_OF_HEAD)
    if (end < 0 || end > HEAD_MAX) return this.#wait(HEAD_MAX)
    const [first, ...lines] = this.#unread.toString("latin1", 0, end).split(END_OF_LINE)
    this.#unread = this.#unread.subarray(end + END_OF_HEAD.length)
    const [, minor, status] = /^HTTP\/1\.(\d) (\d{3})(?: |$)/.exec(first) ?? broken("it is not HTTP/1.1")
    this.status = Number(status)
    // "Go on" and the like come before the answer.
    if (this.status < 200) {
      this.goesOn ||= this.status === 100
      return true
    }
    this.headers = Object.create(null)
    for (const line of lines) this.#header(line)
    this.keep = minor === "1" && !/\bclose\b/i.test(this.headers.connection ?? "")
    this.#step = this.#framing()
    return true
  }

  #header(line) {
    const [, name, value] = /^([^\s:]+):[ \t]*(.*?)[ \t]*$/.exec(line) ?? broken("a header is none")
    const key = name.toLowerCase()
    const before = this.headers[key]
    if (key === "content-length" && before !== undefined && before !== value) broken("it has two lengths")
    this.headers[key] = before === undefined || key === "content-length" ? value : `${before}, ${value}`
  }

  #framing() {
    const { "transfer-encoding": encoding, "content-length": length } = this.headers
    if (this.status === 204 || this.status === 304) return "done"
    if (encoding !== undefined) {
      if (encoding.toLowerCase() !== "chunked") broken(`its encoding is ${JSON.stringify(encoding)}`)
      // With both, somebody on the way may see another end than we do.
      if (length !== undefined) this.keep = false
      return "chunkSize"
    }
    if (length === undefined) {
      this.keep = false
      return "untilClosed"
    }
    if (!/^\d{1,15}$/.test(length)) broken("its length is no number")
    this.#expect(Number(length))
    return this.#left === 0 ? "done" : "body"
  }

  readBody() {
    this.#piece()
    if (this.#left > 0) return false
    this.#step = "done"
    return true
  }

  readUntilClosed() {
    this.#expect(this.#unread.length)
    this.#piece()
    return false
  }

  readChunkSize() {
    const line = this.#line()
    if (line === undefined) return false
    const [, size] = /^([0-9a-f]{1,12})[ \t]*(?:;.*)?$/i.exec(line) ?? broken("the size of a chunk is no number")
    this.#expect(Number.parseInt(size, 16))
    this.#step = this.#left === 0 ? "trailer" : "chunk"
    return true
  }

  readChunk() {
    this.#piece()
    if (this.#left > 0) return false
    this.#step = "chunkEnd"
    return true
  }

  readChunkEnd() {
    const line = this.#line()
    if (line === undefined) return false
    if (line !== "") broken("a chunk is longer than it says")
    this.#step = "chunkSize"
    return true
  }

  readTrailer() {
    const line = this.#line()
    if (line === undefined) return false
    if (line === "") this.#step = "done"
    return true
  }

  #line() {
    const end = this.#unread.indexOf(END_OF_LINE)
    if (end < 0 || end > LINE_MAX) {
      this.#wait(LINE_MAX)
      return undefined
    }
    const line = this.#unread.toString("latin1", 0, end)
    this.#unread = this.#unread.subarray(end + END_OF_LINE.length)
    return line
  }

  #wait(most) {
    return this.#unread.length > most ? broken("a line does not end") : false
  }

  #expect(size) {
    this.#left = size
    this.#size += size
    if (this.#take === undefined && this.#size > BODY_MAX) broken(`it has more than ${BODY_MAX} bytes`)
  }

  #piece() {
    const piece = this.#unread.subarray(0, this.#left)
    if (piece.length === 0) return
    if (this.#take === undefined) this.#pieces.push(piece)
    else this.#take(piece)
    this.#left -= piece.length
    this.#unread = this.#unread.subarray(piece.length)
  }
}

const STEPS = {
  head: "readHead",
  body: "readBody",
  untilClosed: "readUntilClosed",
  chunkSize: "readChunkSize",
  chunk: "readChunk",
  chunkEnd: "readChunkEnd",
  trailer: "readTrailer",
}

function broken(why) {
  throw new Error(`its answer cannot be read: ${why}`)
}

module.exports = { Answer }
