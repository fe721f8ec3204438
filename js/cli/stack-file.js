"use strict"

// Loading alien.ts, on plain Node.

const fs = require("node:fs")
const os = require("node:os")
const path = require("node:path")
const { AlienError } = require("../errors.js")
const { BUILDER } = require("../raw.js")
const { keep, runKept } = require("./kept-stack.js")

const NAMES = ["alien.ts", "alien.mts", "alien.js", "alien.mjs"]

/** The stack file to use: the one named, or the one in this folder; `undefined` where there is none and none was named. */
function find(named) {
  if (named !== undefined) {
    const file = path.resolve(named)
    if (fs.statSync(file, { throwIfNoEntry: false })?.isFile()) return file
    throw stackError("STACK_FILE_NOT_FOUND", `there is no stack file ${file}`, "name another with --file")
  }
  return NAMES.map((name) => path.resolve(name)).find((file) => fs.existsSync(file))
}

/**
 * The built stack that a file exports. With `cached`, what was made of its TypeScript is kept for the next time; without, no
 * file is written.
 *
 * @throws {AlienError} `STACK_FILE_NOT_FOUND`, `STACK_FILE_INVALID` (it does not compile, or exports no stack),
 * `STACK_FILE_FAILED` (it throws; `where` is file and line). What the builders throw comes through as it is.
 */
async function load(named, { cached = false } = {}) {
  const file = find(named)
  if (file === undefined) {
    const hint = "change to the folder of your stack, or name its file with --file"
    throw stackError("STACK_FILE_NOT_FOUND", `there is no ${NAMES.join(", ")} in ${process.cwd()}`, hint)
  }
  const exported = await evaluate(file, cached && cache())
  const stack = await (exported?.default ?? plainExports(exported))
  const shown = path.relative(process.cwd(), file) || file
  if (stack === undefined || stack === null) {
    const hint = "end it with: export default new alien.Stack(\"name\").add(…).build()"
    throw stackError("STACK_FILE_INVALID", `${shown} has no default export`, hint)
  }
  if (stack[BUILDER] !== undefined) {
    const what = stack[BUILDER] === "Stack" ? "a Stack that is not built" : `a ${stack[BUILDER]}, not a stack`
    const hint = stack[BUILDER] === "Stack" ? "add .build() at its end" : "export a built Stack that it was added to"
    throw stackError("STACK_FILE_INVALID", `the default export of ${shown} is ${what}`, hint)
  }
  if (typeof stack !== "object" || stack.resources === undefined) {
    const hint = "export what new alien.Stack(…).build() gives"
    throw stackError("STACK_FILE_INVALID", `the default export of ${shown} is not a stack`, hint)
  }
  return stack
}

/** `module.exports = stack`, as CommonJS files have it. */
function plainExports(exported) {
  return typeof exported?.id === "string" && typeof exported.resources === "object" ? exported : undefined
}

/**
 * The user's own folder for what can be made again (XDG Base Directory Specification); `false` where there is none that
 * nobody else can write to: what is in it is executed.
 */
function cache() {
  const base = process.env.XDG_CACHE_HOME
  const dir = path.join(base && path.isAbsolute(base) ? base : path.join(os.homedir(), ".cache"), "alien", "stacks")
  try {
    fs.mkdirSync(dir, { recursive: true, mode: 0o700 })
    const { uid, mode } = fs.statSync(dir)
    return (process.getuid === undefined || uid === process.getuid()) && (mode & 0o022) === 0 && dir
  } catch {
    return false
  }
}

async function evaluate(file, fsCache) {
  try {
    const kept = fsCache && (await runKept(fsCache, file))
    if (kept) return kept
  } catch (error) {
    throw explain(error, file)
  }
  const { createJiti } = require("jiti")
  const self = path.resolve(__dirname, "../..")
  const jiti = createJiti(file, {
    // The stack is built with the package whose command runs, wherever either is installed.
    alias: { "@alienplatform/core": path.join(self, "index.js") },
    fsCache,
    moduleCache: false,
    interopDefault: false,
  })
  try {
    const exported = await jiti.import(file)
    if (fsCache) keep(fsCache, file, (source) => jiti.transform({ source, filename: file, ts: true, async: true }))
    return exported
  } catch (error) {
    // A full disk, say.
    if (fsCache && error?.path?.startsWith?.(fsCache)) return evaluate(file, false)
    throw explain(error, file)
  }
}

function explain(error, file) {
  const shown = path.relative(process.cwd(), file) || file
  const where = place(error, file)
  if (isSyntaxError(error)) {
    // The place is said apart from the message.
    const first = String(error.message).replace(PARSE_ERROR, "").split("\n")[0].trim()
    const message = first.replace(file, shown).replace(/^.*?:\s(?=\S)/, (m) => (m.includes(shown) ? "" : m))
    return located(stackError("STACK_FILE_INVALID", `${shown} cannot be read: ${message}`), where)
  }
  // What the builders say is better than anything we could.
  if (error instanceof AlienError) return located(error, where)
  const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error)
  return located(stackError("STACK_FILE_FAILED", `${shown} throws ${message}`), where)
}

/** How jiti calls what its parser refuses. */
const PARSE_ERROR = /^ParseError:\s*/

function isSyntaxError(error) {
  return PARSE_ERROR.test(String(error?.message)) || error?.name === "SyntaxError" || error?.code === "BABEL_PARSE_ERROR" || error?.code === "BABEL_PARSER_SYNTAX_ERROR"
}

/** `alien.ts:12:3`: the innermost place in the stack file itself. */
function place(error, file) {
  const text = `${error?.message ?? ""}\n${error?.stack ?? ""}`
  const escaped = file.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")
  const found = text.match(new RegExp(`${escaped}:(\\d+)(?::(\\d+))?`)) ?? String(error?.message ?? "").match(/\((\d+):(\d+)\)/)
  if (found === null) return undefined
  return [path.relative(process.cwd(), file) || file, found[1], found[2]].filter(Boolean).join(":")
}

function located(error, where) {
  if (where !== undefined) Object.defineProperty(error, "where", { value: where, enumerable: false, configurable: true })
  return error
}

function stackError(code, message, hint) {
  return new AlienError({ code, message, hint, httpStatusCode: 400, retryable: false, internal: false })
}

module.exports = { find, load }
