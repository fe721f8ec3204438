"use strict"

// The errors of this folder. They have the shape of the package's AlienError, but not its class: the folder also works
// where it was copied to alone.

const CODE_MAX = 128
const MESSAGE_MAX = 16384

class CommandError extends Error {
  constructor({ code, message, context, hint, retryable = false, httpStatusCode = 500, source }) {
    super(message.slice(0, MESSAGE_MAX))
    this.code = code.slice(0, CODE_MAX)
    if (context !== undefined) this.context = context
    this.retryable = retryable
    this.internal = false
    this.httpStatusCode = httpStatusCode
    if (hint !== undefined) this.hint = hint
    if (source !== undefined) {
      this.source = source
      // Node prints causes by itself.
      Object.defineProperty(this, "cause", { value: source, configurable: true, writable: true })
    }
    Error.captureStackTrace?.(this, new.target)
  }

  /** As plain data; what `new AlienError(…)` takes, so that an error of here can become one. */
  toOptions() {
    const { code, message, context, hint, httpStatusCode, internal, retryable, source } = this
    return Object.fromEntries(
      Object.entries({ code, message, context, hint, httpStatusCode, internal, retryable, source: source?.toOptions() }).filter(([, value]) => value !== undefined),
    )
  }

  toJSON() {
    return this.toOptions()
  }
}

// On the prototype, so that the first line of a stack has it and no instance shows it as its own.
Object.defineProperty(CommandError.prototype, "name", { value: "CommandError", configurable: true, writable: true })

/** A call that was made wrongly. */
function misuse(message, hint) {
  return new CommandError({ code: "INVALID_ARGUMENT", message, hint, httpStatusCode: 400 })
}

module.exports = { CommandError, misuse }
