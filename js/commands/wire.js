"use strict"

// Connections to one server, each for one exchange of HTTP/1.1 at a time, and kept for the next.
//
// Not node:http, nor fetch(): those take five and ten times the processor's time for each of these short exchanges, and a
// receiver that is busy does little else.

const fs = require("node:fs")
const net = require("node:net")
const { Answer } = require("./answer.js")

/** For a connection to be made: an address whose owner is gone may never say so. */
const CONNECT_MS = 5000
/** For the rest of an answer that has begun. */
const REST_MS = 5000
/** Of connections that are silent: a long wait on one that is gone would never end. */
const PROBE_MS = 30_000

class Wire {
  #socket
  #call
  #idle
  #used = false

  /** @param {{idle: (wire: Wire) => void, gone: (wire: Wire) => void}} told what becomes of it */
  constructor(socket, { idle, gone }) {
    this.#socket = socket
    this.#idle = idle
    socket.setNoDelay(true)
    socket.setKeepAlive(true, PROBE_MS)
    if (socket.connecting) {
      const timer = setTimeout(() => socket.destroy(new Error(`no connection within ${CONNECT_MS / 1000} s`)), CONNECT_MS)
      // Over TLS it is there once that is agreed on.
      for (const event of [socket.encrypted ? "secureConnect" : "connect", "close"]) socket.once(event, () => clearTimeout(timer))
    }
    socket.on("data", (chunk) => this.#take(chunk))
    socket.on("end", () => this.#end())
    socket.on("error", (error) => this.#fail(error))
    socket.on("close", () => {
      this.#fail(Object.assign(new Error("the connection was closed"), { code: "ECONNRESET" }))
      gone(this)
    })
  }

  /**
   * Sends a request and gives its answer. An error with `stale` says that the connection may have ended before it.
   *
   * @param {string} head
   * @param {string | Buffer | undefined} body
   * @param {{signal?: AbortSignal, timeoutMs: number, lingerMs?: number}} how `lingerMs` is how long an answer is still taken that
   *   was on its way when the signal aborted
   * @returns {Promise<Answer>}
   */
  exchange(head, body, { signal, timeoutMs, lingerMs = 0 }) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#socket.destroy(new Error(`nothing came within ${timeoutMs / 1000} s`)), timeoutMs)
      // An answer that has begun is read: it may hold a command that is ours by now.
      const abort = () => {
        if (this.#call.answering) return
        if (lingerMs === 0 || this.#socket.connecting) return this.#socket.destroy(new Error("aborted"))
        clearTimeout(this.#call.timer)
        this.#call.timer = setTimeout(() => this.#socket.destroy(new Error("aborted")), lingerMs)
        // Half a close: the server hears that nobody waits any more, and what it had sent before that still comes.
        this.#socket.end()
      }
      signal?.addEventListener("abort", abort)
      this.#call = { answer: new Answer(), answering: false, timer, abort, signal, resolve, reject }
      this.#socket.ref()
      if (typeof body === "string") this.#socket.write(head + body)
      else {
        this.#socket.cork()
        this.#socket.write(head)
        if (body !== undefined) this.#socket.write(body)
        this.#socket.uncork()
      }
    })
  }

  destroy() {
    this.#socket.destroy()
  }

  #take(chunk) {
    const call = this.#call
    // Nobody has asked.
    if (call === undefined) return this.#socket.destroy()
    try {
      if (call.answer.take(chunk)) return this.#done()
    } catch (error) {
      return this.#socket.destroy(error)
    }
    if (!call.answering) {
      clearTimeout(call.timer)
      call.timer = setTimeout(() => this.#socket.destroy(new Error(`its answer stopped for ${REST_MS / 1000} s`)), REST_MS)
    }
    call.answering = true
    call.timer.refresh()
  }

  #end() {
    if (this.#call?.answer.end()) this.#done()
  }

  #done() {
    const { answer, resolve } = this.#over()
    this.#used = true
    if (answer.keep && !this.#socket.writableEnded) {
      // What is only kept keeps no process alive.
      this.#socket.unref()
      this.#idle(this)
    } else this.#socket.destroy()
    resolve(answer)
  }

  #fail(error) {
    if (this.#call === undefined) return
    const { answering, reject } = this.#over()
    error.stale = this.#used && !answering && ["ECONNRESET", "EPIPE"].includes(error.code)
    reject(error)
  }

  #over() {
    const call = this.#call
    clearTimeout(call.timer)
    call.signal?.removeEventListener("abort", call.abort)
    this.#call = undefined
    return call
  }
}

/** A server, and the connections to it. */
class Server {
  #url
  #all = new Set()
  #idle = []
  #session
  #caFile

  /**
   * @param {URL} url of which only the origin counts
   * @param {string | Buffer} [caFile] certificates that it is to be signed with, in place of Node's own: their file, or themselves
   */
  constructor(url, caFile) {
    this.#url = url
    this.#caFile = caFile
  }

  /** One exchange, on a connection that is kept if there is one: the one that was used last. */
  exchange(head, body, how) {
    const wire = this.#idle.pop() ?? this.#open()
    return wire.exchange(head, body, how)
  }

  #open() {
    const wire = new Wire(this.connect(), {
      idle: (wire) => this.#idle.push(wire),
      gone: (wire) => {
        this.#all.delete(wire)
        this.#idle = this.#idle.filter((other) => other !== wire)
      },
    })
    this.#all.add(wire)
    return wire
  }

  /** A connection of one's own. */
  connect() {
    const { protocol, hostname, port } = this.#url
    const host = hostname.replace(/^\[|\]$/g, "")
    if (protocol === "http:") return net.connect({ host, port: Number(port || 80) })
    // It takes longer to load than all of the rest.
    const tls = require("node:tls")
    const servername = net.isIP(host) === 0 ? host : undefined
    // Read at every connection: it may be replaced while we run.
    const ca = typeof this.#caFile === "string" ? fs.readFileSync(this.#caFile) : this.#caFile
    const socket = tls.connect({ host, port: Number(port || 443), servername, ca, ALPNProtocols: ["http/1.1"], session: this.#session })
    socket.on("session", (session) => (this.#session = session))
    return socket
  }

  /** Closes them all. */
  close() {
    for (const wire of this.#all) wire.destroy()
  }
}

module.exports = { Server }
