"use strict"

// What was made of a TypeScript stack file that imports this package and Node's own modules alone, which is most of them: the
// next call runs it without the compiler, whose loading takes longer than all the rest of a deploy that changes nothing.
//
// An entry holds the text that it was made from, so that no other can be taken for it. Who calls sees to it that nobody else
// can write to the folder: what is in it is executed.

const fs = require("node:fs")
const { isBuiltin } = require("node:module")
const path = require("node:path")
const vm = require("node:vm")

const CORE = "@alienplatform/core"
const MADE_BY = `${require("../../package.json").version} ${process.version}`

/** Names of the values that compiled code expects around it, as jiti calls them. */
const AROUND = ["exports", "module", "__filename", "__dirname", "jitiImport"]
const BEGIN = `(async (${AROUND.join(", ")}) => {`

/** What `file` exports, by an entry in `dir`; `undefined` where there is none that fits. */
async function runKept(dir, file) {
  const code = fitting(dir, file, text(file))?.code
  if (code === undefined) return undefined
  // Lines and columns stay those of the compiled code.
  const run = new vm.Script(`${BEGIN}${code}\n})`, { filename: file, columnOffset: -BEGIN.length }).runInThisContext()
  const module = { exports: {} }
  const core = require("../../index.js")
  // As a namespace has it.
  const imported = Object.create(core, { default: { value: core } })
  await run(module.exports, module, file, path.dirname(file), (name) => (name === CORE ? imported : import(name)))
  return module.exports
}

/**
 * Keeps what `compile` makes of the text of `file`, if it imports nothing that could change by itself; else that it does, so
 * that nobody compiles it again to find out.
 */
function keep(dir, file, compile) {
  const source = text(file)
  if (!/\.m?ts$/.test(file) || source === undefined || fitting(dir, file, source) !== undefined) return
  const compiled = compile(source)
  const code = standsAlone(compiled) ? compiled : undefined
  const entry = entryOf(dir, file)
  const aside = `${entry}.${process.pid}`
  try {
    fs.writeFileSync(aside, JSON.stringify({ by: MADE_BY, is: file, source, code }), { mode: 0o600 })
    fs.renameSync(aside, entry)
  } catch {
    // The next call compiles it again.
    fs.rmSync(aside, { force: true })
  }
}

/** Whether compiled code asks for this package and Node's own modules only, each by its name. */
function standsAlone(code) {
  const asked = [...code.matchAll(/\bjitiImport\b(?:\("([^"\\]+)"\))?/g)].map(([, name]) => name)
  return asked.every((name) => name === CORE || (name !== undefined && isBuiltin(name))) && !/\b(?:require|jitiESMResolve|import)\b/.test(code)
}

/** The entry for a file that holds this text now. */
function fitting(dir, file, source) {
  const entry = read(entryOf(dir, file))
  return entry?.by === MADE_BY && entry.is === file && entry.source === source ? entry : undefined
}

function entryOf(dir, file) {
  // FNV-1a: to tell files of one name apart, no more; loading node:crypto would take longer than running the stack.
  let hash = 0x811c9dc5
  for (const byte of Buffer.from(file)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0
  return path.join(dir, `${path.basename(file).slice(0, 100)}.${hash.toString(16)}.json`)
}

function text(file) {
  try {
    return fs.readFileSync(file, "utf8")
  } catch {
    return undefined
  }
}

function read(file) {
  try {
    return JSON.parse(fs.readFileSync(file, "utf8"))
  } catch {
    return undefined
  }
}

module.exports = { keep, runKept }
