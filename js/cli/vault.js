"use strict"

// `alien vault`: what daemons that are linked to a vault find there.

const { UsageError } = require("./args.js")
const { readAll } = require("./bytes.js")
const { choose } = require("./words.js")
const engine = require("../engine.js")

const SOURCES = ["from-file", "from-env"]
const KNOWN = { set: { words: ["ID", "KEY"], options: SOURCES }, list: { words: ["ID"] }, remove: { words: ["ID", "KEY"] } }

/** @param {{call: () => Promise<object>}} asked `call`: gives the engine's options for the deployment */
async function vault({ words: all, options, call }) {
  const { name, words: [id, key] } = choose("vault", KNOWN, SOURCES, all, options)
  const change = name === "set" ? { key, value: await read(options) } : { key }
  const keys = await engine.vault(id, change, await call())
  if (options.json) console.log(JSON.stringify({ vault: id, keys }))
  else if (name === "list") keys.forEach((key) => console.log(key))
  else console.error(name === "set" ? `${key} is in vault ${id}.` : `${key} is not in vault ${id} any more.`)
  return 0
}

/** The value. Never from the command line, where any user could see it; standard input loses one line end, as a file does. */
async function read(options) {
  const { "from-file": file, "from-env": variable } = options
  if (file !== undefined && variable !== undefined) throw new UsageError("--from-file and --from-env both say where the value is: leave one out")
  if (variable !== undefined) {
    const value = process.env[variable]
    if (value === undefined) throw new UsageError(`--from-env: the variable ${variable} is not set in this environment`)
    return value
  }
  if (file === undefined && process.stdin.isTTY) console.error("Type the value, then Enter and Ctrl-D.")
  const bytes = await readAll(file, "from-file")
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes).replace(/\r?\n$/, "")
  } catch {
    throw new UsageError("a value is text in UTF-8; encode what is not, with base64 for example")
  }
}

module.exports = { vault }
