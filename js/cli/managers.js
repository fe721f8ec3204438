"use strict"

// `alien manager`: the manager of commands in a cluster, and its image.

const path = require("node:path")
const { UsageError } = require("./args.js")
const { engineOptions } = require("./options.js")
const show = require("./show.js")
const { choose } = require("./words.js")
const { manage } = require("../engine.js")

const INSTALLING = ["image", "tls-secret", "storage", "storage-class"]
const REMOVING = ["data", "force"]
const IMAGING = ["output"]
const KNOWN = {
  image: { options: IMAGING },
  "image push": { words: ["REF"] },
  install: { options: INSTALLING },
  uninstall: { options: REMOVING },
}

async function manager({ words: all, options, signal }) {
  // `push` is the image's own word.
  const joined = all[0] === "image" && all[1] === "push" ? ["image push", ...all.slice(2)] : all
  const { name, words } = choose("manager", KNOWN, [...INSTALLING, ...REMOVING, ...IMAGING], joined, options)
  const run = { image, "image push": push, install, uninstall }[name]
  return run(options, signal, words)
}

async function image(options, signal) {
  if (options.output === undefined) throw new UsageError("manager image needs --output oci-archive:FILE or oci:DIR; or push it: alien manager image push REF")
  // Relative to where the command runs.
  const [transport, file, ...tag] = options.output.split(":")
  const output = file ? [transport, path.resolve(file), ...tag].join(":") : options.output
  return made(options, await manage("managerImage", { output }, engineOptions(options, signal)))
}

async function push(options, signal, [reference]) {
  return made(options, await manage("managerImage", { push: reference }, engineOptions(options, signal)))
}

function made({ json }, result) {
  console.log(json ? JSON.stringify(result) : result.image)
  return 0
}

async function install(options, signal) {
  inCluster("install", options)
  if (options.image === undefined) throw new UsageError("manager install needs --image REF: what `alien manager image push` prints")
  const wanted = { image: options.image, tlsSecret: options["tls-secret"], storage: options.storage, storageClass: options["storage-class"] }
  const result = await watched((onEvent) => manage("installManager", wanted, { ...engineOptions(options, signal), platform: "kubernetes", onEvent }))
  if (options.json) console.log(JSON.stringify(result))
  else console.error(`The manager in namespace ${result.namespace} is up: daemons that take commands find it at ${result.url}.`)
  return 0
}

async function uninstall(options, signal) {
  inCluster("uninstall", options)
  const wanted = { data: options.data, force: options.force }
  const result = await watched((onEvent) => manage("uninstallManager", wanted, { ...engineOptions(options, signal), platform: "kubernetes", onEvent }))
  if (options.json) console.log(JSON.stringify(result))
  else console.error(`The manager in namespace ${result.namespace} is gone${result.data ? ", with all that it kept" : "; what it keeps stays, and `alien manager install` goes on with it"}.`)
  return 0
}

/** There is no other place; whoever names one means something else. */
function inCluster(name, { platform }) {
  if (platform !== undefined && platform !== "kubernetes") {
    throw new UsageError(`manager ${name} is for clusters: on ${platform} a deploy starts its own where it is needed`)
  }
}

async function watched(work) {
  const progress = show.progress()
  try {
    return await work((event) => progress.take(event))
  } finally {
    progress.end()
  }
}

module.exports = { manager }
