"use strict"

// Errors that a person can act on, and what libraries built on this one need to make their own. Those that come from the
// native side are rebuilt here, in the realm of the caller.

const BRAND = Symbol.for("@alienplatform/core/AlienError")
const CODE_MAX = 128
const MESSAGE_MAX = 16384

/** Cut to what the JSON contract allows. */
function cut(text, most) {
  return text.length <= most ? text : `${text.slice(0, most - 1)}…`
}

function isAlienError(value) {
  return typeof value === "object" && value !== null && value[BRAND] === true
}

/** Hidden from `console.log` and `toStrictEqual` where there is nothing to show. */
function define(error, key, value) {
  if (value !== undefined) error[key] = value
}

class AlienError extends Error {
  constructor(input) {
    const options = typeof input?.toOptions === "function" ? input.toOptions() : input
    if (typeof options?.code !== "string" || typeof options.message !== "string") {
      throw new TypeError("new AlienError(…) takes {code, message, …} or what a definition's create(…) returns")
    }
    super(cut(options.message, MESSAGE_MAX))
    this.code = cut(options.code, CODE_MAX)
    define(this, "context", options.context)
    this.retryable = options.retryable ?? false
    this.internal = options.internal ?? false
    this.httpStatusCode = options.httpStatusCode ?? 500
    define(this, "hint", options.hint)
    if (options.source != null) {
      this.source = isAlienError(options.source) ? options.source : rebuild(options.source)
      // Node prints causes by itself.
      Object.defineProperty(this, "cause", { value: this.source, configurable: true, writable: true })
    }
    Error.captureStackTrace?.(this, new.target)
  }

  static fromDefinition(definition) {
    return new AlienError(definition)
  }

  static async from(value) {
    if (isAlienError(value)) return value
    // Those of js/commands, which know nothing of this class.
    if (typeof value?.toOptions === "function") return new AlienError(value)
    return new AlienError({
      code: "GENERIC_ERROR",
      message: messageOf(value),
      context: { originalError: plain(value, []), errorType: typeName(value) },
      httpStatusCode: 500,
    })
  }

  withContext(definition) {
    const options = typeof definition?.toOptions === "function" ? definition.toOptions() : definition
    return new AlienError({ ...options, source: this })
  }

  /** This error and its sources, outermost first. */
  *chain() {
    for (let error = this; error !== undefined; error = error.source) yield error
  }

  hasErrorCode(code) {
    return this.findErrorByCode(code) !== undefined
  }

  findErrorByCode(code) {
    for (const error of this.chain()) if (error.code === code) return error
    return undefined
  }

  toOptions() {
    const options = { code: this.code, message: this.message }
    define(options, "context", this.context)
    define(options, "hint", this.hint)
    options.httpStatusCode = this.httpStatusCode
    options.internal = this.internal
    if (this.issues !== undefined) options.issues = this.issues
    options.retryable = this.retryable
    define(options, "source", this.source?.toOptions())
    return options
  }

  toExternal() {
    if (this.internal) {
      return new AlienError({ code: "GENERIC_ERROR", message: "Internal server error", httpStatusCode: 500 })
    }
    return rebuild({ ...this.toOptions(), source: this.source?.toExternal() })
  }

  toJSON() {
    return this.toOptions()
  }

  toString() {
    const [first, ...sources] = [...this.chain()].map((error) => `${error.code}: ${error.message}`)
    return [first, ...sources.map((line) => `├─▶ ${line}`)].join("\n")
  }
}

// On the prototype, so that the first line of a stack has them and no instance shows them as its own.
Object.defineProperty(AlienError.prototype, "name", { value: "AlienError", configurable: true, writable: true })
Object.defineProperty(AlienError.prototype, BRAND, { value: true })

class ValidationError extends AlienError {
  constructor(options) {
    super({ code: "VALIDATION_ERROR", httpStatusCode: 400, ...options })
    this.issues = options.issues ?? []
    Error.captureStackTrace?.(this, new.target)
  }
}

Object.defineProperty(ValidationError.prototype, "name", { value: "ValidationError", configurable: true, writable: true })

/** The error that options, or the JSON of an error, speak of. */
function rebuild(options) {
  return options.issues === undefined ? new AlienError(options) : new ValidationError(options)
}

/** Rebuilds an error that comes from the native side; its stack begins at the caller of `top`. */
function fromReport(report, top) {
  const error = rebuild(report)
  Error.captureStackTrace?.(error, top)
  return error
}

function defineError({ code, context: schema, message, retryable = false, internal = false, httpStatusCode = 500, hint }) {
  const metadata = { code, retryable, internal, httpStatusCode }
  return {
    metadata,
    contextSchema: schema,
    create(input) {
      const context = schema === undefined ? input : schema.parse(input)
      const options = { ...metadata, message: typeof message === "function" ? message(context) : message, context }
      if (hint !== undefined) options.hint = typeof hint === "function" ? hint(context) : hint
      return { ...options, toOptions: () => ({ ...options }) }
    },
  }
}

function messageOf(value) {
  if (value instanceof Error || typeof value?.message === "string") return value.message
  try {
    return String(value)
  } catch {
    // An object without a prototype has no text.
    return "an object was thrown"
  }
}

function typeName(value) {
  if (value === null || value === undefined) return String(value)
  return value.constructor?.name ?? typeof value
}

/** A copy that JSON can hold, whatever was thrown. */
function plain(value, above) {
  if (typeof value === "bigint" || typeof value === "symbol" || typeof value === "function") return String(value)
  if (typeof value !== "object" || value === null) return value
  if (above.includes(value) || above.length > 8) return "[circular]"
  const inside = [...above, value]
  if (Array.isArray(value)) return value.map((item) => plain(item, inside))
  if (value instanceof Date) return value.toISOString?.() ?? String(value)
  const isError = Object.prototype.toString.call(value) === "[object Error]"
  const copy = isError ? { name: value.name, message: value.message, stack: value.stack } : {}
  for (const key of Object.keys(value)) copy[key] = plain(value[key], inside)
  if (isError && value.cause !== undefined && copy.cause === undefined) copy.cause = plain(value.cause, inside)
  return copy
}

module.exports = { AlienError, ValidationError, defineError, fromReport }
