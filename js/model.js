"use strict"

// The builders. They gather what they are told, as data, and hand it over once, at build(): every rule, default and
// message is on the native side (src/model).

const { call } = require("./call.js")
const { BUILDER, snapshot } = require("./raw.js")

/** Access to a builder's draft for the classes of this file alone. */
let draftOf

class Builder {
  #draft

  constructor(id) {
    this.#draft = { id: snapshot(id) }
  }

  static {
    draftOf = (builder) => builder.#draft
  }
}

/** Marks a class as a builder, in every realm, so that "you forgot .build()" can be told. */
function builder(type, name) {
  Object.defineProperty(type.prototype, BUILDER, { value: name })
}

/** Sets one field of the draft. */
function set(target, key, value) {
  draftOf(target)[key] = snapshot(value)
  return target
}

/** Something that was built. Its only own property is `config`. */
class Resource {
  constructor(config) {
    this.config = config
  }

  ref() {
    return { type: this.config.type, id: this.config.id }
  }
}

/** A resource as a reference; anything else as it is, for the native side to judge. */
function reference(resource) {
  const config = typeof resource === "object" && resource?.[BUILDER] === undefined ? resource?.config : undefined
  return snapshot(typeof config === "object" && config !== null ? { type: config.type, id: config.id } : resource)
}

class Daemon extends Builder {
  static any() {
    return "daemon"
  }

  code(code) {
    return set(this, "code", code)
  }

  command(argv) {
    return set(this, "command", argv)
  }

  commandsEnabled(enabled) {
    return set(this, "commandsEnabled", enabled)
  }

  cpu(amount) {
    return set(this, "cpu", amount)
  }

  environment(variables) {
    return set(this, "environment", variables)
  }

  link(resource) {
    const draft = draftOf(this)
    draft.links = [...(draft.links ?? []), reference(resource)]
    return this
  }

  memory(amount) {
    return set(this, "memory", amount)
  }

  permissions(profile) {
    return set(this, "permissions", profile)
  }

  stopGracePeriodSeconds(seconds) {
    return set(this, "stopGracePeriodSeconds", seconds)
  }

  build() {
    return new Resource(call("buildDaemon", draftOf(this), Daemon.prototype.build))
  }
}

class Storage extends Builder {
  static any() {
    return "storage"
  }

  lifecycleRules(rules) {
    return set(this, "lifecycleRules", rules)
  }

  publicRead(enabled) {
    return set(this, "publicRead", enabled)
  }

  versioning(enabled) {
    return set(this, "versioning", enabled)
  }

  build() {
    return new Resource(call("buildStorage", draftOf(this), Storage.prototype.build))
  }
}

class Kv extends Builder {
  static any() {
    return "kv"
  }

  build() {
    return new Resource(call("buildKv", draftOf(this), Kv.prototype.build))
  }
}

class Queue extends Builder {
  static any() {
    return "queue"
  }

  build() {
    return new Resource(call("buildQueue", draftOf(this), Queue.prototype.build))
  }
}

class Vault extends Builder {
  static any() {
    return "vault"
  }

  build() {
    return new Resource(call("buildVault", draftOf(this), Vault.prototype.build))
  }
}

class Stack extends Builder {
  #id

  constructor(id) {
    super(id)
    this.#id = id
    draftOf(this).add = []
  }

  get id() {
    return this.#id
  }

  add(resource, lifecycle, options) {
    const added = { resource: snapshot(resource), lifecycle: snapshot(lifecycle) }
    if (options !== undefined) added.options = snapshot(options)
    draftOf(this).add.push(added)
    return this
  }

  permissions(permissions) {
    return set(this, "permissions", permissions)
  }

  platforms(platforms) {
    return set(this, "supportedPlatforms", platforms)
  }

  build() {
    return call("buildStack", draftOf(this), Stack.prototype.build)
  }
}

builder(Daemon, "Daemon")
builder(Kv, "Kv")
builder(Queue, "Queue")
builder(Stack, "Stack")
builder(Storage, "Storage")
builder(Vault, "Vault")

module.exports = { Daemon, Kv, Queue, Resource, Stack, Storage, Vault }
