"use strict"

// Which handler a command goes to, and what it is given.

const { CommandError, misuse } = require("./errors.js")

const NAME_MAX = 256

/** Handlers by the names of their commands. */
class Handlers {
  #all = new Map()

  /**
   * @param {string} name
   * @param {[Function] | [object, Function]} rest a handler, or a Standard Schema (https://standardschema.dev) and a handler
   */
  add(name, ...rest) {
    const [schema, handler] = rest.length > 1 ? rest : [undefined, rest[0]]
    return this.#put(name, { schema, handler, takes: "json" })
  }

  /** The same for a handler that gets its parameters as a stream of bytes. */
  addStream(name, handler) {
    return this.#put(name, { handler, takes: "stream" })
  }

  #put(name, { schema, handler, takes }) {
    if (typeof name !== "string" || name === "" || name.length > NAME_MAX) {
      throw misuse(`a command's name is a text of 1 to ${NAME_MAX} characters, not ${JSON.stringify(name)}`)
    }
    if (typeof handler !== "function") throw misuse(`the handler of the command "${name}" is a ${typeof handler}, not a function`)
    if (schema !== undefined && typeof schema?.["~standard"]?.validate !== "function") {
      throw misuse(`the schema of the command "${name}" is no Standard Schema`, "those of zod (3.24 and later), valibot (1 and later) and arktype (2 and later) are")
    }
    if (this.#all.has(name)) throw misuse(`the command "${name}" has a handler already`)
    this.#all.set(name, { handler, schema, takes })
    return Object.freeze({ name })
  }

  /**
   * The handler of a command, and whether it takes its parameters as `json` or as a `stream`.
   *
   * @throws {CommandError} `UNKNOWN_COMMAND`
   */
  find(name) {
    const found = this.#all.get(name)
    if (found === undefined) {
      const names = [...this.#all.keys()].map((known) => `"${known}"`).join(", ")
      throw new CommandError({ code: "UNKNOWN_COMMAND", message: `there is no command "${name}" here; there is ${names || "none"}`, httpStatusCode: 404 })
    }
    return found
  }

  /**
   * Parameters as a handler takes them.
   *
   * @throws {CommandError} `INVALID_PARAMS`
   */
  async check(name, { schema }, params) {
    if (schema === undefined) return params
    const result = await schema["~standard"].validate(params)
    if (result.issues === undefined) return result.value
    // Not path.map: arktype's is a class of its own, and mapping it makes another of those.
    const issues = result.issues.map(({ message, path }) => ({ message, path: Array.from(path ?? [], key) }))
    const said = issues.map(({ message, path }) => (path.length === 0 ? message : `${path.join(".")}: ${message}`)).join("; ")
    const error = new CommandError({ code: "INVALID_PARAMS", message: `the parameters of "${name}" are not valid: ${said}`, httpStatusCode: 400 })
    error.details = { issues }
    throw error
  }
}

/** A part of an issue's path as JSON can hold it. */
function key(segment) {
  const bare = typeof segment === "object" && segment !== null ? segment.key : segment
  return typeof bare === "number" ? bare : String(bare)
}

module.exports = { Handlers }
