#!/usr/bin/env node
"use strict"

// The `alien` command. Text for people goes to stderr, results to stdout; exit codes: 0 done, 1 failed, 2 the command
// line is wrong, 130 cancelled with Ctrl-C.

const { UsageError, parse } = require("./cli/args.js")
const { paint } = require("./cli/paint.js")

async function main(argv) {
  // What reads our output may stop reading (`alien logs | head`): then there is nobody left to write for.
  process.stdout.on("error", (error) => process.exit(error.code === "EPIPE" ? 0 : 1))
  let asked = { options: { json: argv.includes("--json") } }
  try {
    asked = parse(argv)
    return await run(asked)
  } catch (error) {
    return fail(error, asked)
  }
}

async function run({ command, words, options }) {
  if (command === "help") return require("./cli/help.js").print(words[0])
  const controller = new AbortController()
  const interrupt = () => {
    // The second Ctrl-C means it.
    if (controller.signal.aborted) process.exit(130)
    // A terminal has echoed ^C, and what comes next would stand right behind it.
    if (process.stderr.isTTY) process.stderr.write("\n")
    controller.abort(new Cancelled())
  }
  process.on("SIGINT", interrupt)
  process.on("SIGTERM", interrupt)
  try {
    const commands = require("./cli/commands.js")
    return await commands[command]({ words, options, signal: controller.signal })
  } finally {
    process.off("SIGINT", interrupt)
    process.off("SIGTERM", interrupt)
  }
}

class Cancelled extends Error {
  constructor() {
    super("cancelled")
  }
}

/** What becomes of what was begun. */
const CANCELLED = {
  commands: "a command that was waited for is taken back",
  manager: "what was done so far stays, and the same command goes on from there",
  exec: "the program was not told, and may still run",
  token: "`alien token list` shows what there is",
}

/** Says what was wrong, and gives the exit code. */
function fail(error, { command, options: { json } }) {
  if (error instanceof Cancelled) {
    const what = CANCELLED[command] ?? "what was done so far stays, and deploying again goes on from there"
    console.error(`alien: cancelled; ${what}`)
    return 130
  }
  const usage = error instanceof UsageError
  if (json) console.log(JSON.stringify({ error: asJson(error) }))
  if (usage) console.error(`alien: ${error.message}\nRun \`alien help\` for what there is.`)
  else console.error(describe(error))
  return usage ? 2 : 1
}

function asJson(error) {
  return typeof error?.toJSON === "function" ? error.toJSON() : { code: error?.code ?? "ERROR", message: String(error?.message ?? error) }
}

function describe(error) {
  const lines = [`${paint(process.stderr, "red", "error:")} ${error?.message ?? error}`]
  if (error?.hint) lines.push(`${paint(process.stderr, "cyan", "hint:")} ${error.hint}`)
  // An error that is none of ours comes from the stack file or is a bug: where it was thrown is what one needs.
  if (error?.where) lines.push(`  at ${error.where}`)
  else if (error instanceof Error && error.httpStatusCode === undefined && error.stack) {
    lines.push(...error.stack.split("\n").slice(1, 6))
  }
  return lines.join("\n")
}

main(process.argv.slice(2)).then((code) => {
  process.exitCode = code ?? 0
})
