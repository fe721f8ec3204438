"use strict"

// What each command does: read the stack, call the engine, say what came of it. Each gives its exit code.

const fs = require("node:fs")
const path = require("node:path")
const { UsageError, number } = require("./args.js")
const show = require("./show.js")
const stackFile = require("./stack-file.js")
const { connect, deploy: deployStack, deployments, plan: planStack } = require("../engine.js")
const { AlienError } = require("../errors.js")
const { preflight: runPreflight } = require("../preflight.js")
const pack = require("../../package.json")

/** The engine's options from the command's. */
function engineOptions(options, signal) {
  const timeout = number(options.timeout, "timeout")
  return {
    platform: options.platform ?? "local",
    name: options.name,
    timeoutMs: timeout === undefined ? undefined : Math.max(1, Math.round(timeout * 1000)),
    local: {
      stateDir: options["state-dir"] === undefined ? undefined : path.resolve(options["state-dir"]),
      registries: mirrors(options.mirror),
      pull: options.pull,
    },
    signal,
  }
}

function mirrors(list) {
  if (list === undefined) return undefined
  return Object.fromEntries(
    list.map((entry) => {
      const at = entry.indexOf("=")
      if (at <= 0) throw new UsageError(`--mirror takes HOST=URL, not ${JSON.stringify(entry)}`)
      return [entry.slice(0, at), { mirror: entry.slice(at + 1) }]
    }),
  )
}

/** `ID.NAME[=VAR]` and `ID.NAME=PATH`. Values are read from the environment or a file: on the command line any user could see them. */
function secrets(options) {
  const given = {}
  const put = ([id, name], value) => (given[id] = { ...given[id], [name]: value })
  for (const entry of options.secret ?? []) {
    const [target, variable] = split(entry)
    const named = secretName(target)
    const value = process.env[variable ?? named[1]]
    if (value === undefined) throw new UsageError(`--secret ${target}: the variable ${variable ?? named[1]} is not set in this environment`)
    put(named, value)
  }
  for (const entry of options["secret-file"] ?? []) {
    const [target, file] = split(entry)
    const named = secretName(target)
    if (file === undefined) throw new UsageError(`--secret-file takes ID.NAME=PATH, not ${JSON.stringify(entry)}`)
    put(named, readSecret(file).replace(/\r?\n$/, ""))
  }
  return Object.keys(given).length === 0 ? undefined : given
}

/** `ID.NAME` in its two parts. */
function secretName(target) {
  const at = target.indexOf(".")
  if (at <= 0 || at === target.length - 1) throw new UsageError(`a secret is named ID.NAME, not ${JSON.stringify(target)}`)
  return [target.slice(0, at), target.slice(at + 1)]
}

function readSecret(file) {
  try {
    return fs.readFileSync(file, "utf8")
  } catch (error) {
    throw new UsageError(`--secret-file: ${file} cannot be read (${error.code})`)
  }
}

function split(entry) {
  const at = entry.indexOf("=")
  return at < 0 ? [entry] : [entry.slice(0, at), entry.slice(at + 1)]
}

/** The deployment that a command is about: named, or the stack's, or the only one there is. */
async function existing(options, signal) {
  const call = engineOptions(options, signal)
  if (call.name === undefined) {
    const file = stackFile.find(options.file)
    call.name = file === undefined ? await only(call) : (await stackFile.load(options.file)).id
  }
  return connect(call)
}

async function only(call) {
  const names = await deployments(call)
  if (names.length === 1) return names[0]
  const there = names.length === 0 ? "there is no deployment here" : `there is: ${names.join(", ")}`
  throw new AlienError({
    code: "DEPLOYMENT_NOT_NAMED",
    message: `which deployment? There is no stack file in ${process.cwd()} to say, and ${there}`,
    hint: "name it with --name, or name the stack file with --file",
    httpStatusCode: 400,
    retryable: false,
    internal: false,
  })
}

async function preflight({ options, signal }) {
  const stack = await stackFile.load(options.file)
  const report = await runPreflight(stack, { platform: options.platform ?? "local", signal })
  if (options.json) console.log(JSON.stringify(report))
  else show.preflight(report)
  return report.ok ? 0 : 1
}

async function plan({ options, signal }) {
  const stack = await stackFile.load(options.file)
  const result = await planStack(stack, { ...engineOptions(options, signal), secrets: secrets(options) })
  if (options.json) console.log(JSON.stringify(result))
  else show.plan(result, process.stdout)
  return 0
}

async function deploy({ options, signal }) {
  const given = secrets(options)
  const stack = await stackFile.load(options.file)
  const progress = show.progress()
  try {
    const call = { ...engineOptions(options, signal), secrets: given, onEvent: (event) => progress.take(event) }
    const deployment = await deployStack(stack, call)
    progress.end()
    if (options.json) console.log(JSON.stringify(await deployment.status({ signal })))
    else progress.summary(deployment.name)
    return 0
  } finally {
    progress.end()
  }
}

async function status({ options, signal }) {
  const deployment = await existing(options, signal)
  const result = await deployment.status({ signal })
  if (options.json) console.log(JSON.stringify(result))
  else show.status(result)
  return 0
}

async function restart({ words: [id], options, signal }) {
  const deployment = await existing(options, signal)
  const progress = show.progress()
  try {
    await deployment.restart(id, { signal, timeoutMs: engineOptions(options).timeoutMs, onEvent: (event) => progress.take(event) })
  } finally {
    progress.end()
  }
  if (options.json) console.log(JSON.stringify(await deployment.status({ signal })))
  return 0
}

async function destroy({ options, signal }) {
  const call = engineOptions(options, signal)
  call.name ??= stackFile.find(options.file) === undefined ? await only(call) : (await stackFile.load(options.file)).id
  const deployment = await connect(call).catch((error) => {
    // What is asked for is that nothing be there.
    if (error.code === "DEPLOYMENT_NOT_FOUND") return undefined
    throw error
  })
  if (deployment === undefined) {
    if (options.json) console.log(JSON.stringify({ name: call.name, destroyed: false }))
    else console.error(`There is no deployment "${call.name}": nothing to destroy.`)
    return 0
  }
  const progress = show.progress()
  try {
    await deployment.destroy({ data: options.data, signal, timeoutMs: call.timeoutMs, onEvent: (event) => progress.take(event) })
  } finally {
    progress.end()
  }
  if (options.json) console.log(JSON.stringify({ name: call.name, destroyed: true }))
  else console.error(`Deployment "${call.name}" is gone${options.data ? ", with its data" : ""}.`)
  return 0
}

async function logs({ words, options, signal }) {
  const wanted = { tail: number(options.tail, "tail"), since: since(options.since), follow: options.follow, signal }
  const deployment = await existing(options, signal)
  const known = (await deployment.status({ signal })).resources.filter(({ type }) => type === "daemon").map(({ id }) => id)
  const ids = words.length === 0 ? known : words
  const write = show.lines({ json: options.json, timestamps: options.timestamps, names: ids.length > 1 ? ids : undefined })
  try {
    await Promise.all(
      ids.map(async (id) => {
        for await (const line of deployment.logs(id, wanted)) await write(id, line)
      }),
    )
  } catch (error) {
    // Following ends with Ctrl-C; that is no failure.
    if (!(signal.aborted && options.follow)) throw error
  }
  return 0
}

/** `10m` ago, or a time. */
function since(text) {
  if (text === undefined) return undefined
  const ago = text.match(/^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/)
  if (ago !== null) return Date.now() - Number(ago[1]) * { ms: 1, s: 1e3, m: 6e4, h: 36e5, d: 864e5 }[ago[2]]
  const time = Date.parse(text)
  if (Number.isNaN(time)) throw new UsageError(`--since takes 10s, 5m, 2h, 1d or an RFC 3339 time, not ${JSON.stringify(text)}`)
  return time
}

async function version({ options }) {
  console.log(options.json ? JSON.stringify({ version: pack.version }) : pack.version)
  return 0
}

module.exports = { deploy, destroy, logs, plan, preflight, restart, status, version }
