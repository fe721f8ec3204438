"use strict"

// What each command does: read the stack, call the engine, say what came of it. Each gives its exit code.

const { UsageError, duration, number, timeoutMs } = require("./args.js")
const { external } = require("./manager.js")
const { bindings, engineOptions, inputs } = require("./options.js")
const show = require("./show.js")
const statusView = require("./status.js")
const stackFile = require("./stack-file.js")
const { connect, deploy: deployStack, deployments, plan: planStack } = require("../engine.js")
const { AlienError } = require("../errors.js")
const { leastRole, preflight: runPreflight, render: renderStack } = require("../preflight.js")
const pack = require("../../package.json")

/** The deployment that a command is about: named, or the stack's, or the only one there is. */
async function existing(options, signal) {
  return connect({ ...(await named(options, signal)), manager: external(options) })
}

/** The engine's options for it, whether or not it is there. */
async function named(options, signal) {
  const call = engineOptions(options, signal)
  if (call.name === undefined) {
    const file = stackFile.find(options.file)
    call.name = file === undefined ? await only(call) : (await stackFile.load(options.file, { cached: true })).id
  }
  return call
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
  const given = bindings(options)
  const stack = await stackFile.load(options.file)
  const report = await runPreflight(stack, { platform: engineOptions(options).platform, bindings: given, signal })
  if (options.json) console.log(JSON.stringify(report))
  else show.preflight(report)
  return report.ok ? 0 : 1
}

async function plan({ options, signal }) {
  const given = { ...inputs(options), manager: external(options) }
  const stack = await stackFile.load(options.file)
  const progress = show.progress()
  const call = { ...engineOptions(options, signal), ...given, onEvent: (event) => progress.take(event) }
  const result = await planStack(stack, call).finally(() => progress.end())
  if (options.json) console.log(JSON.stringify(result))
  else show.plan(result, process.stdout)
  return 0
}

async function deploy({ options, signal }) {
  const given = { ...inputs(options), manager: external(options) }
  const stack = await stackFile.load(options.file, { cached: true })
  const progress = show.progress()
  try {
    const call = { ...engineOptions(options, signal), ...given, onEvent: (event) => progress.take(event) }
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
  if (options.watch) return watch(deployment, options, signal)
  const result = await deployment.status({ signal, usage: true })
  if (options.json) console.log(JSON.stringify(result))
  else statusView.show(result)
  return 0
}

async function watch(deployment, { json }, signal) {
  const asJson = { show: (status) => console.log(JSON.stringify(status)), end() {} }
  const view = json ? asJson : statusView.live(() => deployment.status({ signal, usage: true }))
  try {
    for await (const status of deployment.watch({ signal })) view.show(status)
    console.error(`Deployment "${deployment.name}" is gone.`)
  } catch (error) {
    // Watching ends with Ctrl-C; that is no failure.
    if (!signal.aborted) throw error
  } finally {
    view.end()
  }
  return 0
}

/** Something done to one daemon, which is up again afterwards. */
const onDaemon = (method) => async ({ words: [id], options, signal }) => {
  const deployment = await existing(options, signal)
  const progress = show.progress()
  try {
    await deployment[method](id, { signal, timeoutMs: timeoutMs(options), onEvent: (event) => progress.take(event) })
  } finally {
    progress.end()
  }
  if (options.json) console.log(JSON.stringify(await deployment.status({ signal })))
  return 0
}

async function exec({ words, options, signal }) {
  const program = require("./exec.js")
  program.check(options)
  const deployment = await existing(options, signal)
  return program.exec(deployment, words, options, { signal, timeoutMs: timeoutMs(options) })
}

async function render({ options }) {
  if (options.platform !== "kubernetes") throw new UsageError("only Kubernetes has manifests: alien render --platform kubernetes")
  const call = { ...engineOptions(options), ...inputs(options, { valueless: true }) }
  const yaml = options.rbac ? await role(options, call) : await renderStack(await stackFile.load(options.file), call)
  process.stdout.write(options.json ? `${JSON.stringify({ yaml })}\n` : yaml)
  return 0
}

/** The least Role; where there is a stack, it says whether somebody takes commands, which needs more. */
async function role(options, call) {
  const stack = stackFile.find(options.file) === undefined ? undefined : await stackFile.load(options.file, { cached: true })
  return leastRole(call, Object.values(stack?.resources ?? {}).some(({ config }) => config.commandsEnabled === true))
}

async function destroy({ options, signal }) {
  const call = { ...engineOptions(options, signal), manager: external(options) }
  call.name ??= stackFile.find(options.file) === undefined ? await only(call) : (await stackFile.load(options.file, { cached: true })).id
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
  const { follow, previous } = options
  if (follow && previous) throw new UsageError("--previous is a run that has ended: it cannot be followed")
  const wanted = { tail: number(options.tail, "tail"), since: moment(options, "since"), until: moment(options, "until"), follow, previous, signal }
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
    if (!(signal.aborted && follow)) throw error
  }
  return 0
}

/** `10m` ago, or a time. */
function moment(options, option) {
  const text = options[option]
  if (text === undefined) return undefined
  const ago = duration(text)
  const time = ago === undefined ? Date.parse(text) : Date.now() - ago
  if (Number.isNaN(time)) throw new UsageError(`--${option} takes 10s, 5m, 2h, 1d or an RFC 3339 time, not ${JSON.stringify(text)}`)
  return time
}

async function version({ options }) {
  console.log(options.json ? JSON.stringify({ version: pack.version }) : pack.version)
  return 0
}

// What talks to managers is read when it is needed.
const commands = (asked) => require("./calls.js").commands(asked)
const token = (asked) => require("./tokens.js").token(asked)
const manager = (asked) => require("./managers.js").manager(asked)
const images = (asked) => require("./images.js").images(asked)
const prune = (asked) => require("./images.js").prune(asked)
const startup = (asked) => require("./startup.js").startup(asked)
const doctor = (asked) => require("./doctor.js").doctor(asked)
const vault = async ({ options, signal, words }) => require("./vault.js").vault({ options, words, call: () => named(options, signal) })
const restart = onDaemon("restart")
const rollback = onDaemon("rollback")

module.exports = { commands, deploy, destroy, doctor, exec, images, logs, manager, plan, preflight, prune, render, restart, rollback, startup, status, token, vault, version }
