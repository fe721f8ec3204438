"use strict"

// Takes commands from a manager, a number of them at once, until it is stopped. Nothing else ends it: a manager that is
// away is waited for.

const { setMaxListeners } = require("node:events")
const { setImmediate: others } = require("node:timers/promises")
const { CommandError } = require("./errors.js")
const { Handlers } = require("./handlers.js")
const { refusal, retryAfter } = require("./http.js")
const { Lease } = require("./lease.js")
const { Manager } = require("./manager.js")
const { settings } = require("./settings.js")
const { Backoff, now, pause } = require("./time.js")

const FIRST_RETRY_MS = 100
/** An empty answer that came sooner than this part of the wait was not waited for. */
const EARLY = 0.5
/** How much longer each pause between polls of a manager that does not wait is than the one before. */
const SLOWER = 1.5

class CommandReceiver {
  #options
  #handlers
  #its
  #manager
  #running
  /** Aborts when no more commands are to be taken. */
  #stop = new AbortController()
  /** Aborts when no more time is given to what runs. */
  #hurry = new AbortController()
  #leases = new Map()
  #wake = () => {}

  constructor(options, handlers = new Handlers()) {
    this.#options = options
    this.#handlers = handlers
    // Every lease may listen to it at once, which Node takes for a leak.
    setMaxListeners(0, this.#hurry.signal)
  }

  command(name, ...rest) {
    this.#handlers.add(name, ...rest)
    return this
  }

  stream(name, handler) {
    this.#handlers.addStream(name, handler)
    return this
  }

  /** Resolves when it was stopped and everything has ended. */
  async run() {
    if (this.#running !== undefined) {
      throw new CommandError({ code: "RECEIVER_RUNNING", message: "this receiver was started already, and each is started once", httpStatusCode: 409 })
    }
    this.#its = settings(this.#options)
    this.#manager = new Manager(this.#its)
    this.#running = this.#run()
    return this.#running
  }

  /** Takes no more commands, lets handlers finish within the drain time, then aborts them. Resolves when all has ended. */
  async stop() {
    this.#stop.abort()
    await this.#running
  }

  async #run() {
    const signalled = () => {
      // The second one means it.
      if (this.#stop.signal.aborted) this.#hurry.abort()
      this.#stop.abort()
    }
    this.#stop.signal.addEventListener("abort", () => this.#wake())
    const signals = this.#its.handleSignals ? ["SIGTERM", "SIGINT"] : []
    for (const name of signals) process.on(name, signalled)
    try {
      await this.#take()
      await this.#drain()
    } finally {
      for (const name of signals) process.off(name, signalled)
      this.#manager.close()
    }
  }

  async #take() {
    const { signal } = this.#stop
    const { concurrency, waitSeconds, pollIntervalMs, pollMaxIntervalMs, pollJitter } = this.#its
    const backoff = new Backoff(FIRST_RETRY_MS, pollIntervalMs)
    let interval = pollIntervalMs
    let early = 0
    let away
    while (!signal.aborted) {
      if (this.#leases.size >= concurrency) await this.#oneEnds()
      if (signal.aborted) return
      const began = now()
      const answer = await this.#ask(concurrency - this.#leases.size)
      if (answer.trouble !== undefined) {
        if (signal.aborted) return
        const { message, hint } = answer.trouble
        if (away !== message) this.#its.log(`alien commands: ${message}${hint ? ` (${hint})` : ""}; asking again until there is an answer`)
        away = message
        await pause(Math.max(backoff.next(), answer.after ?? 0), signal)
        continue
      }
      if (away !== undefined) this.#its.log("alien commands: the manager answers again")
      away = undefined
      backoff.reset()
      if (answer.leases.length > 0) {
        early = 0
        interval = pollIntervalMs
        this.#begin(answer.leases)
        // What has come in meanwhile may end some: then one question is for all their places.
        await others()
      } else if (now() - began >= waitSeconds * 1000 * EARLY && waitSeconds > 0) {
        early = 0
      } else if (++early === 1 && waitSeconds > 0) {
        // One that ends wakes all who wait: it, or the next one, will wait again.
        await pause(FIRST_RETRY_MS * (0.5 + Math.random()), signal)
      } else {
        await pause(interval * (1 + pollJitter * (2 * Math.random() - 1)), signal)
        interval = Math.min(interval * SLOWER, Math.max(pollIntervalMs, pollMaxIntervalMs))
      }
    }
  }

  /** `{leases}`, or `{trouble, after?}`. */
  async #ask(maxLeases) {
    try {
      const answer = await this.#manager.acquire(maxLeases, this.#stop.signal)
      if (answer.status === 200 && Array.isArray(answer.json?.leases)) return { leases: answer.json.leases }
      return { trouble: refusal("the question for commands", answer), after: retryAfter(answer) }
    } catch (error) {
      return { trouble: error }
    }
  }

  #begin(leases) {
    for (const given of leases) {
      const lease = new Lease(this.#manager, this.#its, given, this.#hurry.signal)
      // Handed over in the moment that we stopped, or more than we asked for: somebody else may begin at once.
      const begins = !this.#stop.signal.aborted && this.#leases.size < this.#its.concurrency
      const running = begins ? lease.run(this.#handlers) : lease.release()
      const ended = running
        .catch((error) => this.#its.log(`alien commands: ${given.commandId} was not handled: ${error.stack}`))
        .finally(() => {
          this.#leases.delete(lease)
          this.#wake()
        })
      this.#leases.set(lease, ended)
    }
  }

  #oneEnds() {
    return new Promise((resolve) => {
      this.#wake = resolve
    })
  }

  async #drain() {
    const all = Promise.all(this.#leases.values())
    all.then(() => this.#hurry.abort())
    await pause(this.#its.drainTimeoutMs, this.#hurry.signal)
    this.#hurry.abort()
    for (const lease of this.#leases.keys()) lease.stop()
    await all
  }
}

module.exports = { CommandReceiver }
