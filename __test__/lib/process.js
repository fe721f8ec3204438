"use strict"

// Processes that tests start, and the manager of commands as one of them.

const { spawn } = require("node:child_process")
const fs = require("node:fs")
const path = require("node:path")
const { eventually, root } = require("./bed.js")

const program = path.join(root, "alien-manager")
/** The administrator's token of every manager. */
const ADMIN = "the-admin-of-the-tests"

/** A child process with what it printed, as text. */
function start(program, args, options) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], ...options })
  const its = { child, pid: child.pid, stdout: "", stderr: "" }
  for (const name of ["stdout", "stderr"]) child[name].setEncoding("utf8").on("data", (text) => (its[name] += text))
  its.ended = new Promise((resolve) => child.on("close", (code, signal) => resolve(code ?? signal)))
  its.signal = (name) => child.kill(name)
  its.kill = (name = "SIGKILL") => (child.kill(name), its.ended)
  /** Until so many lines match; gives all that match. */
  its.until = async (pattern, count = 1) => {
    const matching = () => its.stdout.split("\n").filter((line) => pattern.test(line))
    const so = () => ({ enough: matching().length >= count, stdout: its.stdout, stderr: its.stderr, ended: child.exitCode ?? child.signalCode })
    await eventually(so, ({ enough }) => enough)
    return matching()
  }
  return its
}

/**
 * Starts a manager that keeps its data in `data`. The promise `listening` gives its address, or rejects with how it ended before.
 *
 * @param {{data: string, listen?: string, args?: string[], via?: string[]}} how `via`: the program, with its arguments, that starts it
 */
function startManager({ data, listen = "127.0.0.1:0", args = [], via = [] }) {
  const admin = `${data}.admin`
  fs.writeFileSync(admin, `${ADMIN}\n`, { mode: 0o600 })
  const [first, ...rest] = [...via, program, "serve", "--data", data, "--listen", listen, "--admin-token-file", admin, ...args]
  const its = start(first, rest)
  its.listening = new Promise((resolve, reject) => {
    its.child.once("error", reject)
    its.child.stdout.on("data", () => its.stdout.endsWith("\n") && resolve(JSON.parse(its.stdout).url))
    its.ended.then((code) => reject(Object.assign(new Error(`the manager ended with ${code}: ${its.stderr}`), { code, stdout: its.stdout, stderr: its.stderr })))
  })
  return its
}

module.exports = { ADMIN, program, start, startManager }
