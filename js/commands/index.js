"use strict"

// Commands: handlers in a daemon, and calls of them from anywhere.
//
// This folder needs nothing outside itself, no native code and no package: it also works where it is copied to alone.
// docs/commands.md says how it is used; index.d.ts what each part does.

const { CommandsClient } = require("./client.js")
const { CommandError } = require("./errors.js")
const { Handlers } = require("./handlers.js")
const { CommandReceiver } = require("./receiver.js")

/** Those of `command` and `runReceiver`. */
const handlers = new Handlers()

function command(name, ...rest) {
  return handlers.add(name, ...rest)
}

command.stream = function stream(name, handler) {
  return handlers.addStream(name, handler)
}

function createCommandReceiver(options) {
  return new CommandReceiver(options)
}

async function runReceiver(options) {
  await new CommandReceiver(options, handlers).run()
}

module.exports = { CommandError, CommandReceiver, CommandsClient, command, createCommandReceiver, runReceiver }
