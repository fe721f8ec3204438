"use strict"

const alien = require("@alienplatform/core")
const { AlienError, ValidationError, defineError, getResourceOutputs } = alien

/** A schema as zod's: `parse` returns the value, or throws. */
const schema = {
  parse(value) {
    if (typeof value?.limit !== "number") throw new TypeError("limit is not a number")
    return { limit: value.limit }
  },
}
const Quota = defineError({ code: "QUOTA", context: schema, message: ({ limit }) => `More than ${limit}`, retryable: true, internal: false, httpStatusCode: 429 })
const Database = defineError({ code: "DATABASE", context: schema, message: () => "db-7 is down", internal: true, retryable: true })

describe("definitions", () => {
  test("make errors, with the context checked", () => {
    const error = new AlienError(Quota.create({ limit: 3, more: "left out" }))
    expect(error).toBeInstanceOf(Error)
    expect(error.name).toBe("AlienError")
    expect({ ...error }).toEqual({ code: "QUOTA", context: { limit: 3 }, retryable: true, internal: false, httpStatusCode: 429 })
    expect(error.message).toBe("More than 3")
    expect(AlienError.fromDefinition(Quota.create({ limit: 3 })).toOptions()).toEqual(error.toOptions())
    expect(Quota.create({ limit: 3 }).toOptions()).toEqual({ code: "QUOTA", message: "More than 3", context: { limit: 3 }, retryable: true, internal: false, httpStatusCode: 429 })
    expect(() => Quota.create({ limit: "3" })).toThrow("limit is not a number")
    expect(new AlienError(Database.create({ limit: 1 })).httpStatusCode).toBe(500)
  })

  test("a stack begins where the error was made", () => {
    expect(new AlienError(Quota.create({ limit: 3 })).stack.split("\n")[1]).toContain("errors.test.js")
  })

  test("code and message keep within the contract", () => {
    const error = new AlienError({ code: "C".repeat(200), message: "m".repeat(20_000) })
    expect([error.code.length, error.message.length]).toEqual([128, 16384])
    expect(() => new AlienError("text")).toThrow("takes {code, message, …}")
  })
})

describe("AlienError.from", () => {
  test("gives an AlienError back", async () => {
    const error = new AlienError(Quota.create({ limit: 1 }))
    expect(await AlienError.from(error)).toBe(error)
  })

  test("keeps what an error was", async () => {
    class Odd extends RangeError {}
    const error = await AlienError.from(Object.assign(new Odd("odd"), { code: "E", big: 1n, self: null }))
    expect(error).toMatchObject({ code: "GENERIC_ERROR", message: "odd", retryable: false, internal: false, httpStatusCode: 500 })
    expect(error.context.errorType).toBe("Odd")
    expect(error.context.originalError).toMatchObject({ message: "odd", code: "E", big: "1" })
    expect(error.context.originalError.stack).toContain("errors.test.js")
  })

  test.each([
    ["text", "text", "String"],
    [undefined, "undefined", "undefined"],
    [null, "null", "null"],
    [7, "7", "Number"],
    [Object.create(null), "an object was thrown", "object"],
  ])("takes anything: %p", async (thrown, message, errorType) => {
    const error = await AlienError.from(thrown)
    expect([error.message, error.context.errorType]).toEqual([message, errorType])
  })

  test("what contains itself is still JSON", async () => {
    const loop = new Error("loop")
    loop.self = loop
    expect(JSON.parse(JSON.stringify(await AlienError.from(loop))).context.originalError.self).toBe("[circular]")
  })
})

describe("the chain", () => {
  const inner = new AlienError(Database.create({ limit: 1 }))
  const outer = inner.withContext(Quota.create({ limit: 2 }))

  test("is searched, printed and written whole", () => {
    expect(outer.source).toBe(inner)
    expect(outer.cause).toBe(inner)
    expect(outer.hasErrorCode("DATABASE")).toBe(true)
    expect(outer.findErrorByCode("DATABASE")).toBe(inner)
    expect(outer.hasErrorCode("OTHER")).toBe(false)
    expect(outer.findErrorByCode("OTHER")).toBeUndefined()
    expect(String(outer)).toBe("QUOTA: More than 2\n├─▶ DATABASE: db-7 is down")
    expect(outer.toOptions().source.code).toBe("DATABASE")
  })

  test("survives JSON", () => {
    const again = new AlienError(JSON.parse(JSON.stringify(outer)))
    expect(again.toJSON()).toEqual(outer.toJSON())
    expect(again.source).toBeInstanceOf(AlienError)
  })

  test("shows nothing internal outside, at any depth", () => {
    const shown = JSON.stringify(outer.toExternal())
    expect(shown).not.toContain("db-7")
    expect(JSON.parse(shown).source).toEqual({ code: "GENERIC_ERROR", message: "Internal server error", httpStatusCode: 500, internal: false, retryable: false })
    expect(inner.withContext(Database.create({ limit: 2 })).toExternal().source).toBeUndefined()
  })
})

test("a ValidationError survives JSON with its issues", () => {
  const error = new ValidationError({ message: "m", issues: [{ path: ["a", 0], code: "custom", message: "x" }] })
  expect(error).toMatchObject({ name: "ValidationError", code: "VALIDATION_ERROR", httpStatusCode: 400 })
  expect(error.withContext({ code: "X", message: "y" }).toOptions().source.issues).toEqual(error.issues)
})

describe("getResourceOutputs", () => {
  const resource = new alien.Daemon("d").code({ type: "image", image: "i" }).permissions("p").build()
  const outputs = { daemonName: "edge-d", running: true }
  const state = { resources: { d: { type: "daemon", outputs }, k: { type: "kv" } } }
  const code = (work) => {
    try { work() } catch (error) { return [error instanceof AlienError, error.code, error.message] }
    return undefined
  }

  test("reads them, by resource, reference or id, from a state or a status", () => {
    expect(getResourceOutputs(state, resource)).toEqual(outputs)
    expect(getResourceOutputs(state, resource.ref())).toEqual(outputs)
    expect(getResourceOutputs({ resources: [{ id: "d", type: "daemon", outputs }] }, "d")).toEqual(outputs)
    expect(getResourceOutputs(state, "d", { parse: (value) => value.daemonName })).toBe("edge-d")
  })

  test("says what is wrong", () => {
    expect(code(() => getResourceOutputs(state, "x"))).toEqual([true, "RESOURCE_NOT_FOUND", 'The deployment has no resource "x"; it has "d", "k"'])
    expect(code(() => getResourceOutputs(state, { type: "kv", id: "d" }))).toEqual([true, "UNEXPECTED_RESOURCE_TYPE", '"d" is a daemon, not a kv'])
    expect(code(() => getResourceOutputs(state, "k"))).toEqual([true, "RESOURCE_OUTPUTS_PARSE_ERROR", 'The outputs of "k" are not as expected: it has none yet'])
    const bad = { resources: { d: { type: "daemon", outputs: {} } } }
    expect(code(() => getResourceOutputs(bad, "d"))[2]).toBe('The outputs of "d" are not as expected: daemonName is not a string')
  })
})
