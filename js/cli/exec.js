"use strict"

// `alien exec`: this terminal, or these pipes, as a program's own.

const { on, once } = require("node:events")
const os = require("node:os")
const { UsageError } = require("./args.js")

/** What a shell says of a program that a signal ended. */
const SIGNAL_BASE = 128

/**
 * Runs the command, and gives its exit code.
 *
 * @param {import("../engine.js").Deployment} deployment
 */
async function exec(deployment, [id, ...command], { interactive, tty, json }, call) {
  const how = { ...call, tty, stdin: interactive ? process.stdin : undefined }
  if (json) {
    const result = await deployment.exec(id, command, how)
    console.log(JSON.stringify(result))
    return exitCode(result)
  }
  const { stdin, stdout, stderr } = process
  const raw = tty && interactive
  if (tty && stdout.isTTY) how.size = sizes(stdout)
  // What is typed belongs to the program, Ctrl-C included.
  if (raw) stdin.setRawMode(true)
  let result
  try {
    result = await deployment.exec(id, command, { ...how, onStdout: into(stdout), onStderr: into(stderr) })
  } finally {
    if (raw) stdin.setRawMode(false)
    // Somebody may still hold its other end open, and would keep us.
    if (interactive) stdin.destroy()
  }
  // It did not end by itself, and a shell's prompt alone would not say so.
  if (["SIGKILL", "SIGTERM"].includes(result.signal)) stderr.write(`${tty ? "\n" : ""}alien: the program was ended by ${result.signal}; was daemon "${id}" stopped?\n`)
  return exitCode(result)
}

/** @throws {UsageError} before anything is asked */
function check({ interactive, tty, json }) {
  if (tty && json) throw new UsageError("-t gives a terminal, and --json a document: one of them")
  if (tty && interactive && !process.stdin.isTTY) throw new UsageError("-t with -i needs a terminal on standard input; leave out -t to pipe")
}

/** Writes chunks to a stream, no faster than it takes them. */
const into = (stream) => (chunk) => (stream.write(chunk) ? undefined : once(stream, "drain"))

/** The terminal's size, and each new one. */
async function* sizes(out) {
  const changes = on(out, "resize")
  for (;;) {
    const [columns, rows] = out.getWindowSize()
    if (columns > 0 && rows > 0) yield { columns, rows }
    await changes.next()
  }
}

function exitCode({ code, signal }) {
  return code ?? SIGNAL_BASE + (os.constants.signals[signal] ?? 0)
}

module.exports = { check, exec }
