"use strict"

// `alien startup`: how daemons come back when their machine has started.

const { spawn } = require("node:child_process")
const path = require("node:path")
const { UsageError } = require("./args.js")
const { engineOptions } = require("./options.js")
const engine = require("../engine.js")

const ACTIONS = ["install", "uninstall", "run"]

async function startup({ options, signal }) {
  const asked = ACTIONS.filter((name) => options[name])
  if (asked.length > 1) throw new UsageError(`startup takes one of ${asked.map((name) => `--${name}`).join(" and ")}`)
  const [action = "print"] = asked
  const unitDir = options["unit-dir"]
  const request = { action, unitDir: unitDir === undefined ? undefined : path.resolve(unitDir) }
  const report = await engine.startup(request, engineOptions(options, signal))
  if (action === "run") return keep(report.command, signal)
  if (options.json) console.log(JSON.stringify(report))
  else if (action === "print") console.log(report.text.trimEnd())
  if (action === "print") console.error(`This belongs into ${report.path}: \`alien startup --install\` writes it.`)
  else console.error(`${action === "install" ? "Written" : "Removed"}: ${report.path}`)
  for (const command of report.done) console.error(`Done: ${command}`)
  if (report.left.length > 0) console.error(`${action === "print" ? "Then run" : "Now run"}:\n  ${report.left.join("\n  ")}`)
  return 0
}

/** Runs what the unit runs, until it ends or is ended by Ctrl-C, which stops the daemons. */
function keep([program, ...args], signal) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ["ignore", "inherit", "inherit"], env: {} })
    const end = () => child.kill("SIGTERM")
    signal?.addEventListener("abort", end, { once: true })
    child.on("error", reject)
    child.on("exit", (code, name) => {
      signal?.removeEventListener("abort", end)
      if (name !== null) console.error(`alien: the scanner was ended by ${name}; its daemons go on`)
      resolve(code ?? 1)
    })
  })
}

module.exports = { startup }
