"use strict"

// Waiting, and for how long.

/** The longest that a timer of Node takes. */
const TIMER_MAX = 2 ** 31 - 1

/** Resolves after so long, or at once when the signal aborts; look at the signal then. */
function pause(ms, signal) {
  if (signal?.aborted) return Promise.resolve()
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer)
      signal?.removeEventListener("abort", end)
      resolve()
    }
    const timer = setTimeout(end, Math.min(ms, TIMER_MAX))
    signal?.addEventListener("abort", end, { once: true })
  })
}

/** Delays that double from `first` to `most`, each somewhere in its upper half: many that wait do not come back as one. */
class Backoff {
  #first
  #most
  #next

  constructor(first, most) {
    this.#first = first
    this.#most = Math.max(first, most)
    this.#next = first
  }

  next() {
    const delay = this.#next
    this.#next = Math.min(delay * 2, this.#most)
    return delay * (0.5 + Math.random() / 2)
  }

  reset() {
    this.#next = this.#first
  }
}

/** A clock that nobody sets. */
const now = () => performance.now()

module.exports = { Backoff, TIMER_MAX, now, pause }
