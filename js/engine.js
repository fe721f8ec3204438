"use strict"

// The engine's calls. What they do is native (src/engine); here are promises, signals, listeners and iterators.

const { defaults, native, open, retrace, traced } = require("./call.js")
const { AlienError } = require("./errors.js")
const { snapshot } = require("./raw.js")

/**
 * Runs one operation of the engine.
 *
 * @param {object} request what src/node/engine.rs takes, without options and defaults
 * @param {object} options the user's, with `signal` and `onEvent`
 * @param {Function} top the public function that was called; it must not have awaited anything yet
 * @param {(event: object) => void} [record] sees every event, also where the user listens to none
 */
async function run(request, options, top, record = () => {}) {
  const { signal, onEvent, ...rest } = options ?? {}
  const trace = traced(top)
  signal?.throwIfAborted()
  const addon = native()
  const text = addon.engineBegin(JSON.stringify({ ...request, options: snapshot(rest), defaults: defaults() }))
  const number = open(text, top)
  const cancel = () => addon.engineCancel(number)
  signal?.addEventListener("abort", cancel, { once: true })
  try {
    await tellAll(addon, number, (event) => {
      record(event)
      onEvent?.(event)
    }, cancel)
    const result = await addon.engineResult(number)
    if (signal?.aborted && JSON.parse(result).error?.code === "CANCELLED") throw signal.reason
    return retrace(() => open(result, top), trace)
  } finally {
    signal?.removeEventListener("abort", cancel)
  }
}

/** Hands every event on, in order, until there are no more. A listener that throws ends the call, with its own error. */
async function tellAll(addon, number, listener, cancel) {
  for (;;) {
    const events = JSON.parse(await addon.engineEvents(number))
    if (events === null) return
    try {
      events.forEach((event) => listener(event))
    } catch (error) {
      cancel()
      await addon.engineResult(number)
      throw error
    }
  }
}

/** What `deploy` has made, or `connect` has found. */
class Deployment {
  #options
  #events = []
  #running = 0
  #wake = []

  constructor(name, options) {
    this.name = name
    const { signal, onEvent, timeoutMs, secrets, bindings, ...kept } = options ?? {}
    this.#options = { ...kept, name }
  }

  /** The options of a call on this deployment. */
  #with(options) {
    return { ...this.#options, ...options }
  }

  async #run(request, options, top) {
    this.#running += 1
    try {
      return await run(request, options, top, (event) => this.#record(event))
    } finally {
      this.#running -= 1
      this.#wakeAll()
    }
  }

  #record(event) {
    this.#events.push(event)
    this.#wakeAll()
  }

  #wakeAll() {
    this.#wake.splice(0).forEach((wake) => wake())
  }

  /** Used by `deploy` alone: what is done before there is anything to return is recorded too. */
  static async deploy(stack, options, top) {
    const name = options?.name ?? stack?.id
    const deployment = new Deployment(name, options)
    // Not with a name that was not given: a stack whose id is wrong is told about its id.
    await deployment.#run({ operation: "deploy", stack: snapshot(stack) }, options, top)
    return deployment
  }

  async status(options) {
    const { usage, ...rest } = options ?? {}
    return this.#run({ operation: "status", usage: usage === true }, this.#with(rest), this.status)
  }

  async restart(id, options) {
    await this.#run({ operation: "restart", id: snapshot(id) }, this.#with(options), this.restart)
  }

  async exec(id, command, options) {
    return require("./exec.js").exec({ id, command, options: this.#options }, options ?? {}, this.exec)
  }

  async rollback(id, options) {
    await this.#run({ operation: "rollback", id: snapshot(id) }, this.#with(options), this.rollback)
  }

  async invoke(id, command, params, options) {
    const { CommandsClient } = require("./commands/index.js")
    const manager = await require("./manager.js").forCallers(this.#options, { signal: options?.signal }, this.invoke)
    const client = new CommandsClient(manager)
    let result
    try {
      result = await client.target(id).invoke(command, params, options)
    } finally {
      client.close()
      // A stream goes on, and so does the way that it comes by.
      if (options?.as === "stream" && result !== undefined) result.once("close", manager.close)
      else manager.close()
    }
    return result
  }

  async destroy(options) {
    const { data, ...rest } = options ?? {}
    await this.#run({ operation: "destroy", data: data === true }, this.#with(rest), this.destroy)
  }

  /** Everything that was told so far, and what is told until no call of this object is under way. */
  async *events() {
    for (let seen = 0; ; ) {
      while (seen < this.#events.length) yield this.#events[seen++]
      if (this.#running === 0) return
      await new Promise((resolve) => this.#wake.push(resolve))
    }
  }

  logs(id, options) {
    const { signal, ...rest } = options ?? {}
    return reader({ options: this.#options, id, logs: { ...rest, since: moment(rest.since), until: moment(rest.until) } }, signal, this.logs)
  }

  watch(options) {
    const { signal, ...rest } = options ?? {}
    return reader({ options: this.#with(rest) }, signal, this.watch)
  }
}

// What a program may never call is read when it does: an import alone has to be quick.

function reader(...about) {
  const { Reader } = require("./reader.js")
  return new Reader(...about)
}

/** A Date, an RFC 3339 time or milliseconds, as milliseconds; what is none of them stays, to be refused by name. */
function moment(since) {
  if (Object.prototype.toString.call(since) === "[object Date]") return since.getTime()
  if (typeof since !== "string") return since
  const time = Date.parse(since)
  return Number.isNaN(time) ? since : time
}

async function plan(stack, options) {
  return run({ operation: "plan", stack: snapshot(stack) }, options, plan)
}

async function deploy(stack, options) {
  return Deployment.deploy(stack, options, deploy)
}

async function connect(options) {
  const deployment = new Deployment(options?.name, options)
  await run({ operation: "status" }, options, connect)
  return deployment
}

/** The names of all deployments there are. */
async function deployments(options) {
  return run({ operation: "list" }, options, deployments)
}

/** The images that are kept on this machine, and who uses them. */
async function images(options) {
  return run({ operation: "images" }, options, images)
}

/** Removes what no daemon uses any more; with `dryRun` only says what that would be. */
async function prune(options) {
  const { dryRun, ...rest } = options ?? {}
  return run({ operation: "prune", dryRun: dryRun === true }, rest, prune)
}

/** Looks at this machine and at what keeps its daemons alive, and mends what it can: `alien doctor`. */
async function doctor(options) {
  const { dryRun, ...rest } = options ?? {}
  return run({ operation: "doctor", dryRun: dryRun === true }, rest, doctor)
}

/** Changes what a vault holds (`{key, value}` puts a value there, `{key}` takes one away) and gives the names of its values: `alien vault`. */
async function vault(id, change, options) {
  return run({ operation: "vault", id, ...change }, options, vault)
}

/** The unit that brings daemons back with their machine: `alien startup`. Not in the package's surface. */
async function startup(request, options) {
  const { defaults } = require("./environment.js")
  return run({ operation: "startup", startup: { ...request, configHome: defaults().configHome } }, options, startup)
}

/** Installs a manager of commands into a cluster, or removes it: `alien manager`. Not in the package's surface. */
async function manage(operation, manager, options) {
  return run({ operation, manager: snapshot(manager) }, options, manage)
}

module.exports = { Deployment, connect, deploy, deployments, doctor, images, manage, plan, prune, startup, vault }
