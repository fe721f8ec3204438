"use strict"

// The command line: which command, its words and its options.

const { parseArgs } = require("node:util")

/** The command line cannot be understood. */
class UsageError extends Error {}

const COMMON = {
  file: { type: "string", short: "f" },
  platform: { type: "string", short: "p" },
  name: { type: "string", short: "n" },
  json: { type: "boolean" },
  timeout: { type: "string" },
  "state-dir": { type: "string" },
  mirror: { type: "string", multiple: true },
  pull: { type: "string" },
  downloads: { type: "string" },
  "store-limit": { type: "string" },
  runtime: { type: "string" },
  kubeconfig: { type: "string" },
  context: { type: "string" },
  namespace: { type: "string" },
  "create-namespace": { type: "boolean" },
  "force-conflicts": { type: "boolean" },
  "on-failure": { type: "string" },
  registry: { type: "string", multiple: true },
  "docker-config": { type: "string" },
  help: { type: "boolean", short: "h" },
}

const BINDINGS = { binding: { type: "string", multiple: true }, bindings: { type: "string" } }
const INPUTS = { secret: { type: "string", multiple: true }, "secret-file": { type: "string", multiple: true }, ...BINDINGS }

/** Which manager of commands, and as whom. */
const MANAGER = { manager: { type: "string" }, "token-file": { type: "string" }, "manager-ca-file": { type: "string" } }

/** Each command's own options, and how many words it takes. */
const COMMANDS = {
  preflight: { options: BINDINGS, words: [0, 0] },
  plan: { options: { ...INPUTS, ...MANAGER }, words: [0, 0] },
  deploy: { options: { ...INPUTS, ...MANAGER }, words: [0, 0] },
  status: { options: { watch: { type: "boolean" } }, words: [0, 0] },
  logs: {
    options: {
      tail: { type: "string" },
      since: { type: "string" },
      until: { type: "string" },
      follow: { type: "boolean" },
      previous: { type: "boolean" },
      timestamps: { type: "boolean", short: "t" },
    },
    words: [0, Infinity],
  },
  restart: { options: {}, words: [1, 1] },
  exec: {
    options: { interactive: { type: "boolean", short: "i" }, tty: { type: "boolean", short: "t" } },
    words: [2, Infinity],
    // Its words are another program's command line.
    foreign: true,
  },
  rollback: { options: MANAGER, words: [1, 1] },
  destroy: { options: { ...MANAGER, data: { type: "boolean" } }, words: [0, 0] },
  images: { options: {}, words: [0, 0] },
  prune: { options: { "dry-run": { type: "boolean" } }, words: [0, 0] },
  doctor: { options: { "dry-run": { type: "boolean" } }, words: [0, 0] },
  startup: {
    options: { install: { type: "boolean" }, uninstall: { type: "boolean" }, run: { type: "boolean" }, "unit-dir": { type: "string" } },
    words: [0, 0],
  },
  render: { options: { ...INPUTS, rbac: { type: "boolean" } }, words: [0, 0] },
  commands: {
    options: {
      ...MANAGER,
      params: { type: "string" },
      raw: { type: "boolean" },
      output: { type: "string" },
      deadline: { type: "string" },
      "idempotency-key": { type: "string" },
      state: { type: "string" },
      target: { type: "string" },
      limit: { type: "string" },
      cursor: { type: "string" },
    },
    // Its first word is a command of its own, which knows how many there may be.
    words: [0, Infinity],
  },
  token: {
    options: { ...MANAGER, role: { type: "string" }, resource: { type: "string" }, ttl: { type: "string" } },
    words: [0, Infinity],
  },
  manager: {
    options: {
      image: { type: "string" },
      output: { type: "string" },
      "tls-secret": { type: "string" },
      storage: { type: "string" },
      "storage-class": { type: "string" },
      data: { type: "boolean" },
      force: { type: "boolean" },
    },
    words: [0, Infinity],
  },
  vault: { options: { "from-file": { type: "string" }, "from-env": { type: "string" } }, words: [0, Infinity] },
  version: { options: {}, words: [0, 0] },
  help: { options: {}, words: [0, 1] },
}

/**
 * @param {string[]} argv without node and script
 * @returns {{command: string, words: string[], options: Record<string, any>}}
 * @throws {UsageError}
 */
function parse(argv) {
  const [first, ...rest] = argv
  if (first === undefined || first === "--help" || first === "-h") return { command: "help", words: [], options: {} }
  if (first === "--version" || first === "-v") return { command: "version", words: [], options: {} }
  const command = COMMANDS[first]
  if (command === undefined) throw new UsageError(`there is no command ${JSON.stringify(first)}${nearest(first)}`)
  const { values, positionals } = read(rest, command)
  if (values.help) return { command: "help", words: [first], options: {} }
  const [least, most] = command.words
  if (positionals.length < least) {
    throw new UsageError(positionals.length === 0 ? `${first} needs the id of a daemon` : `${first} needs a command: alien ${first} ID -- COMMAND…`)
  }
  if (positionals.length > most) throw new UsageError(`${first} takes no ${JSON.stringify(positionals[most])}`)
  return { command: first, words: positionals, options: values }
}

function read(args, command) {
  try {
    return parseArgs({ args, options: { ...COMMON, ...command.options }, allowPositionals: true })
  } catch (error) {
    if (error.code?.startsWith("ERR_PARSE_ARGS")) {
      const message = error.message.replace(/\. To specify .*$/s, "")
      throw new UsageError(command.foreign ? `${message}; the program's own options go after --` : message)
    }
    throw error
  }
}

/** A command that the word may have been meant to be: the same letters but for one or two. */
function nearest(word) {
  const names = Object.keys(COMMANDS)
  const found = names.find((name) => name.startsWith(word)) ?? names.find((name) => distance(name, word) <= 2)
  return found ? `; did you mean \`alien ${found}\`?` : ""
}

function distance(a, b) {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(next[j - 1] + 1, row[j] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1))
    }
    row = next
  }
  return row[b.length]
}

/** A positive number from an option's text. */
function number(text, option) {
  const value = Number(text)
  if (text === undefined) return undefined
  if (!Number.isFinite(value) || value < 0 || text.trim() === "") {
    throw new UsageError(`--${option} takes a number, not ${JSON.stringify(text)}`)
  }
  return value
}

/** `10m`, in milliseconds; undefined for a text that is no such length of time. */
function duration(text) {
  const found = text.match(/^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/)
  return found === null ? undefined : Number(found[1]) * { ms: 1, s: 1e3, m: 6e4, h: 36e5, d: 864e5 }[found[2]]
}

/** `--timeout`, in milliseconds. */
function timeoutMs({ timeout }) {
  const seconds = number(timeout, "timeout")
  return seconds === undefined ? undefined : Math.max(1, Math.round(seconds * 1000))
}

module.exports = { UsageError, duration, number, parse, timeoutMs }
