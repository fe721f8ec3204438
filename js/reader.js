"use strict"

// What goes on and on: a log's lines, a deployment's status. Asked for as they are wanted, and no faster.

const { defaults, native, open, retrace, traced } = require("./call.js")
const { snapshot } = require("./raw.js")

/** An async iterable, which may be iterated once. Nothing begins before that. */
class Reader {
  #request
  #signal
  #top
  #trace

  /**
   * @param {object} request what src/node/readers.rs takes, without defaults
   * @param {AbortSignal | undefined} signal ends the reading, with its reason
   * @param {Function} top the public function that was called
   */
  constructor(request, signal, top) {
    this.#request = { ...snapshot(request), defaults: defaults() }
    this.#signal = signal
    this.#top = top
    this.#trace = traced(top)
  }

  async *[Symbol.asyncIterator]() {
    const addon = native()
    const opened = (text) => retrace(() => open(text, this.#top), this.#trace)
    this.#signal?.throwIfAborted()
    const number = opened(addon.readerOpen(JSON.stringify(this.#request)))
    const close = () => addon.readerClose(number)
    this.#signal?.addEventListener("abort", close, { once: true })
    try {
      for (;;) {
        const items = opened(await addon.readerNext(number))
        this.#signal?.throwIfAborted()
        if (items.length === 0) return
        yield* items
      }
    } finally {
      this.#signal?.removeEventListener("abort", close)
      close()
    }
  }
}

module.exports = { Reader }
