"use strict"

// What ends something before it is done: said once, with a reason.

/**
 * As an AbortController is, with a signal that is made when somebody asks for it: most handlers are over within a moment
 * and never look, and signals nobody looks at were a fifth of what a command cost its receiver.
 */
class Ending {
  #controller
  #tell
  /** Why; undefined until then. */
  reason

  get signal() {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      if (this.reason !== undefined) this.#controller.abort(this.reason)
    }
    return this.#controller.signal
  }

  /** Says it, with a reason that is not undefined. Whoever says it first is heard. */
  abort(reason) {
    if (this.reason !== undefined) return
    this.reason = reason
    this.#controller?.abort(reason)
    this.#tell?.(reason)
  }

  /** What a promise comes to; or a rejection with the reason, if that is earlier. */
  unless(promise) {
    return new Promise((resolve, reject) => {
      if (this.reason !== undefined) reject(this.reason)
      this.#tell = reject
      promise.then(resolve, reject)
    })
  }
}

module.exports = { Ending }
