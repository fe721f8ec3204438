"use strict"

// The engine's options from the command's.

const fs = require("node:fs")
const path = require("node:path")
const { UsageError, number, timeoutMs } = require("./args.js")

/** Where and how; `signal` is Ctrl-C. */
function engineOptions(options, signal) {
  const dockerConfig = absolute(options["docker-config"])
  return {
    platform: options.platform ?? "local",
    name: options.name,
    timeoutMs: timeoutMs(options),
    local: {
      stateDir: absolute(options["state-dir"]),
      registries: pairs(options.mirror, "mirror", "HOST=URL", (url, before) => ({ mirror: [...(before?.mirror ?? []), url] })),
      dockerConfig,
      pull: options.pull,
      downloads: number(options.downloads, "downloads"),
      storeMaxBytes: options["store-limit"],
      runtime: options.runtime,
    },
    kubernetes: {
      kubeconfig: options.kubeconfig,
      context: options.context,
      namespace: options.namespace,
      createNamespace: options["create-namespace"],
      forceConflicts: options["force-conflicts"],
      onFailure: options["on-failure"],
      registries: pairs(options.registry, "registry", "HOST=HOST", (host) => ({ host })),
      dockerConfig,
    },
    signal,
  }
}

const absolute = (file) => (file === undefined ? undefined : path.resolve(file))

/** `NAME=VALUE`, as often as it was given, as an object. `entry` makes a name's value, of the one before where it has one. */
function pairs(list, option, shape, entry) {
  if (list === undefined) return undefined
  const all = {}
  for (const text of list) {
    const [name, value] = split(text)
    if (name === "" || value === undefined) throw new UsageError(`--${option} takes ${shape}, not ${JSON.stringify(text)}`)
    all[name] = entry(value, all[name])
  }
  return all
}

/**
 * What a deploy is given besides the stack.
 *
 * @param {{valueless?: boolean}} [how] `valueless`: secrets are only named, and their values not looked for
 */
function inputs(options, how) {
  return { secrets: secrets(options, how), bindings: bindings(options) }
}

/** `ID.NAME[=VAR]` and `ID.NAME=PATH`. Values are read from the environment or a file: on the command line any user could see them. */
function secrets(options, { valueless = false } = {}) {
  const given = {}
  const put = ([id, name], value) => (given[id] = { ...given[id], [name]: value })
  for (const entry of options.secret ?? []) {
    const [target, variable] = split(entry)
    const named = secretName(target)
    const value = valueless ? "" : process.env[variable ?? named[1]]
    if (value === undefined) throw new UsageError(`--secret ${target}: the variable ${variable ?? named[1]} is not set in this environment`)
    put(named, value)
  }
  for (const entry of options["secret-file"] ?? []) {
    const [target, file] = split(entry)
    const named = secretName(target)
    if (file === undefined) throw new UsageError(`--secret-file takes ID.NAME=PATH, not ${JSON.stringify(entry)}`)
    put(named, valueless ? "" : readText(file, "secret-file").replace(/\r?\n$/, ""))
  }
  return Object.keys(given).length === 0 ? undefined : given
}

/** `ID.NAME` in its two parts. */
function secretName(target) {
  const at = target.indexOf(".")
  if (at <= 0 || at === target.length - 1) throw new UsageError(`a secret is named ID.NAME, not ${JSON.stringify(target)}`)
  return [target.slice(0, at), target.slice(at + 1)]
}

/** `--bindings FILE.json` with all of them, and `--binding ID=JSON`, which goes before it. */
function bindings(options) {
  if (options.binding === undefined && options.bindings === undefined) return undefined
  const file = options.bindings
  const all = file === undefined ? {} : parseJson(readText(file, "bindings"), `--bindings: ${file}`)
  if (typeof all !== "object" || all === null || Array.isArray(all)) {
    throw new UsageError(`--bindings: ${file} holds no object of bindings by resource id`)
  }
  for (const entry of options.binding ?? []) {
    const [id, json] = split(entry)
    // Not the text itself: it may hold a secret.
    if (id === "" || json === undefined) throw new UsageError("--binding takes ID=JSON")
    all[id] = parseJson(json, `--binding ${id}`)
  }
  return all
}

/** Node's words on what is wrong with JSON quote it, and so are not repeated. */
function parseJson(text, what) {
  try {
    return JSON.parse(text)
  } catch {
    throw new UsageError(`${what} is not JSON, such as {"type":"storage","service":"s3","bucketName":"b"}`)
  }
}

function readText(file, option) {
  try {
    return fs.readFileSync(file, "utf8")
  } catch (error) {
    throw new UsageError(`--${option}: ${file} cannot be read (${error.code})`)
  }
}

function split(entry) {
  const at = entry.indexOf("=")
  return at < 0 ? [entry] : [entry.slice(0, at), entry.slice(at + 1)]
}

module.exports = { bindings, engineOptions, inputs }
