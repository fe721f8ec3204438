"use strict"

// Bodies of any size on their way: sent and fetched piece by piece, each on a connection of its own, and never more of one
// in memory than its reader has room for.

const { Answer } = require("./answer.js")

/** How long whoever is asked may take to say "go on". Not all do: then it is sent all the same (RFC 9110, 10.1.1). */
const CONTINUE_MS = 1000
/** For the next bytes to come, or to be taken. */
const STALL_MS = 30_000
/** For the answer to a body that is there: its end has to reach the disk. */
const ANSWER_MS = 120_000
/** Bytes that wait for their reader; then the sender waits too. */
const AHEAD = 256 * 1024

/** What is being sent could not be read any further. */
class SourceFailed extends Error {
  constructor(cause) {
    super("the source of a body has failed")
    this.cause = cause
  }
}

/** One exchange on its own connection. */
class Exchange {
  #socket
  #signal
  #error
  #closed = false
  #wake = () => {}
  #abort
  answer
  done = false

  constructor(socket, signal, piece) {
    this.#socket = socket
    this.#signal = signal
    this.answer = new Answer(piece)
    socket.setNoDelay(true)
    socket.on("data", (chunk) => this.#take(chunk))
    socket.on("end", () => {
      this.done ||= this.answer.end()
      this.#wake()
    })
    socket.on("error", (error) => (this.#error = error))
    socket.on("close", () => {
      this.#closed = true
      this.#wake()
    })
    socket.on("drain", () => this.#wake())
    this.#abort = () => socket.destroy()
    signal?.addEventListener("abort", this.#abort)
  }

  #take(chunk) {
    try {
      // What follows an answer is nobody's.
      if (!this.done) this.done = this.answer.take(chunk)
    } catch (error) {
      this.#socket.destroy(error)
    }
    this.#wake()
  }

  /** Whether there is an answer, if only its head. */
  get answered() {
    return this.done || this.answer.headers !== undefined
  }

  /** Sends, and waits while more is on its way than is taken. */
  async write(data) {
    if (this.#socket.write(data)) return
    await this.until(() => !this.#socket.writableNeedDrain || this.answered, STALL_MS, "nothing was taken")
  }

  pause() {
    this.#socket.pause()
  }

  resume() {
    this.#socket.resume()
  }

  /** Waits until it is so. Throws where the connection ends before, or nothing happens for so long. */
  async until(so, ms, what = "nothing came") {
    while (!so()) {
      this.check()
      const late = await new Promise((resolve) => {
        const timer = setTimeout(() => resolve(true), ms)
        this.#wake = () => {
          clearTimeout(timer)
          resolve(false)
        }
      })
      if (late && !so()) throw new Error(`${what} within ${ms / 1000} s`)
    }
  }

  /** The same, but for what may as well not come. */
  async patiently(so, ms) {
    const end = performance.now() + ms
    while (!so() && performance.now() < end) {
      this.check()
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, end - performance.now())
        this.#wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }

  /** The next of a source; undefined where the exchange has ended meanwhile, which nobody else would notice. */
  next(iterator) {
    return new Promise((resolve, reject) => {
      this.#wake = () => {
        if (this.#closed || this.answered) resolve(undefined)
      }
      this.#wake()
      Promise.resolve(iterator.next()).then(resolve, (error) => reject(new SourceFailed(error)))
    })
  }

  check() {
    if (this.#signal?.aborted) throw this.#signal.reason
    if (this.#closed) throw this.#error ?? Object.assign(new Error("the connection was closed"), { code: "ECONNRESET" })
  }

  end() {
    this.#signal?.removeEventListener("abort", this.#abort)
    this.#socket.destroy()
  }
}

/**
 * Sends a body. The other side is asked first whether it wants it, so that one that it refuses has not been touched.
 *
 * @param {import("node:net").Socket} socket
 * @param {string} head of the request, with `expect: 100-continue`
 * @param {AsyncIterator<Uint8Array>} iterator is not begun where `begin` was not called
 * @param {{signal?: AbortSignal, chunked: boolean, begin: () => void}} how
 * @returns {Promise<Answer>}
 */
async function send(socket, head, iterator, { signal, chunked, begin }) {
  const exchange = new Exchange(socket, signal)
  try {
    await exchange.write(head)
    await exchange.patiently(() => exchange.answer.goesOn || exchange.answered, CONTINUE_MS)
    if (!exchange.answered) {
      begin()
      await pump(exchange, iterator, chunked)
    }
    await exchange.until(() => exchange.done, ANSWER_MS)
    return exchange.answer
  } catch (error) {
    // Refused while it was sent, by somebody who then closed the connection: that is the answer.
    if (!(error instanceof SourceFailed) && !signal?.aborted && exchange.answer.status >= 400) return exchange.answer
    throw signal?.aborted ? signal.reason : error
  } finally {
    exchange.end()
  }
}

async function pump(exchange, iterator, chunked) {
  let ended = false
  try {
    while (!exchange.answered) {
      const next = await exchange.next(iterator)
      if (next === undefined) {
        exchange.check()
        return
      }
      ended = next.done
      if (ended) break
      if (next.value.length === 0) continue
      if (chunked) await exchange.write(`${next.value.length.toString(16)}\r\n`)
      await exchange.write(next.value)
      if (chunked) await exchange.write("\r\n")
      exchange.check()
    }
    if (chunked && ended) await exchange.write("0\r\n\r\n")
  } finally {
    // Whoever reads a file closes it then. One that hangs is not waited for.
    if (!ended) Promise.resolve(iterator.return?.()).catch(() => {})
  }
}

/**
 * Asks for a body: gives the answer once its head is there, and its bytes as they are read.
 *
 * @returns {Promise<{status: number, headers: object, body: AsyncGenerator<Buffer, void>, close: () => void}>} `close` is for
 *   whoever does not read the body
 */
async function receive(socket, head, { signal }) {
  const pieces = []
  let waiting = 0
  const exchange = new Exchange(socket, signal, (piece) => {
    pieces.push(piece)
    waiting += piece.length
    if (waiting >= AHEAD) exchange.pause()
  })
  const aborted = (error) => (signal?.aborted ? signal.reason : error)
  const body = (async function* () {
    try {
      for (;;) {
        while (pieces.length > 0) {
          const piece = pieces.shift()
          waiting -= piece.length
          yield piece
        }
        if (exchange.done) return
        exchange.resume()
        await exchange.until(() => pieces.length > 0 || exchange.done, STALL_MS)
      }
    } catch (error) {
      throw aborted(error)
    } finally {
      exchange.end()
    }
  })()
  try {
    await exchange.write(head)
    await exchange.until(() => exchange.answered, STALL_MS)
    return { status: exchange.answer.status, headers: exchange.answer.headers, body, close: () => exchange.end() }
  } catch (error) {
    exchange.end()
    throw aborted(error)
  }
}

module.exports = { SourceFailed, receive, send }
