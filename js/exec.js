"use strict"

// A program run beside a daemon: its input is fed, its output handed on or gathered, neither faster than the other side
// takes it. src/node/exec.rs is the native half.

const { Readable, Writable } = require("node:stream")
const { StringDecoder } = require("node:string_decoder")
const { defaults, native, open, retrace, traced } = require("./call.js")
const { snapshot } = require("./raw.js")

/** What is sent at once: a huge chunk must not be in memory twice. */
const CHUNK = 65536
/** How an input that can be read is called in the request: nobody's value looks like it. */
const READABLE = { "\0": "input" }

/**
 * @param {{id: unknown, command: unknown, options: object}} about the daemon, what to run, and the deployment's options
 * @param {object} how the user's options
 * @param {Function} top the public function that was called; it must not have awaited anything yet
 */
async function exec(about, how, top) {
  const { signal, stdin, size, onStdout, onStderr, timeoutMs, ...rest } = how
  const trace = traced(top)
  signal?.throwIfAborted()
  const addon = native()
  const wanted = snapshot({ ...rest, command: about.command, size: isStream(size) ? undefined : size })
  const request = {
    options: snapshot({ ...about.options, timeoutMs }),
    defaults: defaults(),
    id: snapshot(about.id),
    exec: { ...wanted, stdin: isReadable(stdin) ? READABLE : snapshot(stdin) },
  }
  const number = open(addon.execOpen(JSON.stringify(request)), top)
  const connection = new Connection(addon, number)
  const close = () => connection.close()
  signal?.addEventListener("abort", close, { once: true })
  const stop = []
  try {
    const started = await addon.execStart(number)
    signal?.throwIfAborted()
    retrace(() => open(started, top), trace)
    if (stdin !== undefined) stop.push(feed(connection, stdin))
    if (isStream(size)) stop.push(follow(connection, size))
    const result = await connection.outputs({ 1: onStdout, 2: onStderr })
    signal?.throwIfAborted()
    if (connection.broken !== undefined) throw connection.broken.error
    return retrace(() => ({ ...open(result.end, top), stdout: result[1], stderr: result[2] }), trace)
  } finally {
    signal?.removeEventListener("abort", close)
    stop.forEach((stopping) => stopping())
    close()
  }
}

/** A running program, by its number. */
class Connection {
  #addon
  #number

  /** The error of whoever feeds it, in a box, for anything can be thrown. */
  broken

  constructor(addon, number) {
    this.#addon = addon
    this.#number = number
  }

  close() {
    this.#addon.execClose(this.#number)
  }

  /** Ends it because of an error on this side. */
  break(error) {
    this.broken ??= { error }
    this.close()
  }

  /** Writes it all, as it is taken. False when the program takes no more. */
  async write(bytes) {
    for (let at = 0; at < bytes.length; at += CHUNK) {
      if (!(await this.#addon.execWrite(this.#number, bytes.subarray(at, at + CHUNK)))) return false
    }
    return true
  }

  endInput() {
    this.#addon.execEndInput(this.#number)
  }

  async resize({ columns, rows }) {
    await this.#addon.execResize(this.#number, columns, rows)
  }

  /** Hands each piece to its listener, or gathers it as text; `end` is the envelope of how the program ended. */
  async outputs(listeners) {
    const text = { 1: "", 2: "" }
    const decoders = { 1: new StringDecoder("utf8"), 2: new StringDecoder("utf8") }
    for (;;) {
      const piece = await this.#addon.execNext(this.#number)
      const [tag, bytes] = [piece[0], piece.subarray(1)]
      if (tag === 0) {
        for (const key of [1, 2]) text[key] += decoders[key].end()
        return { ...text, end: bytes.toString() }
      }
      if (listeners[tag] === undefined) text[tag] += decoders[tag].write(bytes)
      else await listeners[tag](bytes)
    }
  }
}

const isStream = (value) => typeof value?.[Symbol.asyncIterator] === "function"
const isReadable = (value) =>
  typeof value === "string" || ArrayBuffer.isView(value) || isStream(value) || (typeof value === "object" && typeof value?.[Symbol.iterator] === "function")

/** A chunk of input as bytes; nothing where it is neither text nor bytes. */
function bytesOf(chunk) {
  if (typeof chunk === "string") return Buffer.from(chunk)
  return ArrayBuffer.isView(chunk) ? Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength) : undefined
}

/** Feeds the program until one of them ends. Gives what lets go of the source; a stream of the user's stays usable. */
function feed(connection, stdin) {
  const own = typeof stdin?.pipe !== "function"
  const whole = bytesOf(stdin)
  const source = own ? Readable.from(whole === undefined ? stdin : [whole]) : stdin
  const sink = new Writable({
    objectMode: true,
    highWaterMark: 1,
    write(chunk, _, done) {
      const bytes = bytesOf(chunk)
      if (bytes === undefined) return done(new TypeError(`stdin is a stream of strings and bytes, and gave ${chunk === null ? "null" : `a ${typeof chunk}`}`))
      connection.write(bytes).then((taken) => {
        // A program that has closed its input is no error: it is what `head` does.
        if (!taken) source.unpipe(sink)
        done()
      }, done)
    },
    final(done) {
      connection.endInput()
      done()
    },
  })
  const fail = (error) => connection.break(error)
  sink.on("error", fail)
  source.on("error", fail)
  source.pipe(sink)
  return () => {
    source.unpipe(sink)
    // What a source that is cut off says from now on is said to nobody.
    sink.on("error", () => {}).destroy()
    if (!own) return source.off("error", fail)
    source.on("error", () => {}).destroy()
  }
}

/** Tells the program's terminal each size that comes. Gives what stops it. */
function follow(connection, sizes) {
  const iterator = sizes[Symbol.asyncIterator]()
  const run = async () => {
    for (let next = await iterator.next(); !next.done; next = await iterator.next()) await connection.resize(next.value)
  }
  run().catch((error) => connection.break(error))
  // It may be waiting for a size that never comes: then its answer is not waited for.
  return () => void Promise.resolve(iterator.return?.()).catch(() => {})
}

module.exports = { exec }
