"use strict"

const { AlienError, ValidationError, defineError } = require("./js/errors.js")
const { Daemon, Kv, Queue, Resource, Stack, Storage, Vault } = require("./js/model.js")
const { Deployment, connect, deploy, deployments, images, plan, prune } = require("./js/engine.js")
const outputs = require("./js/outputs.js")
const { preflight, render } = require("./js/preflight.js")

module.exports = {
  AlienError,
  Daemon,
  Deployment,
  Kv,
  Queue,
  Resource,
  ...outputs,
  Stack,
  Storage,
  ValidationError,
  Vault,
  connect,
  defineError,
  deploy,
  deployments,
  images,
  plan,
  preflight,
  prune,
  render,
}
