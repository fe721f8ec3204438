"use strict"

// The places that daemons run in, as the suite of behaviours sees them: how to deploy there, and how to look from outside
// what really runs.

const { failure, processesWith, testBed } = require("./bed.js")
const { missing, testCluster } = require("./cluster.js")
const { missingEngine, testEngine } = require("./engines.js")
const alien = require("@alienplatform/core")

/**
 * @typedef {object} Place
 * @property {(more?: object) => object} options of a call of the engine
 * @property {(stack: object, more?: object) => Promise<import("@alienplatform/core").Deployment>} deploy
 * @property {(stack: object, more?: object, again?: () => Promise<void>) => Promise<Error>} refused deploys what ends by itself
 *   at once, and gives the error; where the place may miss that, `again` makes ready for another try
 * @property {() => string} image the tests' program, as a reference that the place can use; there once `beforeAll` is through
 * @property {boolean} folders whether what a daemon is linked to are folders of the place's own
 * @property {"each" | "most" | "few"} oom of how many programs that were killed for want of memory the place tells it
 * @property {number} tick milliseconds after which the times of two lines of a log differ
 * @property {string[]} up steps after which the place may take the program for up at once, where it can be told
 * @property {(deployment: string, id: string) => Promise<string[]>} copies of a daemon's program that run, by names that no
 *   two of them ever share; seen from outside, not through the engine
 * @property {object} where what a status says beyond what it says everywhere
 * @property {string[]} fetches the events of a deploy's images, each once
 * @property {() => {image: string, code: string}} absent an image that is not there, and what is thrown over it
 */

/** This machine. */
function local() {
  const bed = testBed()
  let image
  beforeAll(async () => {
    image = await bed.image()
  })
  return {
    options: bed.options,
    deploy: bed.deploy,
    refused: (stack, more) => failure(bed.deploy(stack, more)),
    image: () => image,
    up: ["ready"],
    tick: 20,
    folders: true,
    oom: "each",
    copies,
    where: { pid: expect.any(Number) },
    fetches: ["image"],
    absent: () => ({ image: `${image.slice(0, image.lastIndexOf(":"))}:absent`, code: "IMAGE_NOT_FOUND" }),
  }
}

// The supervisor and the inits are called otherwise: what is left is the program itself.
const copies = async (deployment, id) =>
  processesWith(mark(deployment, id)).filter(({ command }) => command.startsWith("/bin/daemon ")).map(({ pid }) => `${pid}`)

/** This machine, with a container engine. */
function engine(name) {
  const bed = testBed()
  const its = testEngine(name, bed)
  let image
  beforeAll(async () => {
    image = await bed.image()
  })
  const options = (more = {}) => bed.options({ ...more, local: { runtime: "engine", dockerHost: its.host, ...more.local } })
  async function deploy(stack, more) {
    const deployment = await alien.deploy(stack, options(more))
    await bed.note(deployment)
    return deployment
  }
  return {
    options,
    deploy,
    refused: (stack, more) => failure(deploy(stack, more)),
    image: () => image,
    // Nobody listens for it there.
    up: [],
    // Podman's API tells the seconds alone.
    tick: name === "podman" ? 1100 : 20,
    folders: true,
    // containerd looks for the container's control group once it hears of it, and keeps it to itself where that has gone by then.
    // Podman's event of an end has the exit code alone, it has no event for this, and what it notes of a container is made anew
    // with the next run; under the first version of control groups not even that: conmon, which is woken before the kernel kills,
    // counts the killed at that moment and finds none.
    oom: name === "docker" ? "most" : "few",
    copies,
    where: { pid: expect.any(Number) },
    fetches: ["image"],
    absent: () => ({ image: `${image.slice(0, image.lastIndexOf(":"))}:absent`, code: "IMAGE_NOT_FOUND" }),
  }
}

/** A cluster. */
function kubernetes() {
  const bed = testBed()
  const its = testCluster(bed)
  return {
    options: its.options,
    deploy: its.deploy,
    refused: its.refused,
    image: () => its.image,
    // Nobody listens for it there.
    up: [],
    tick: 20,
    folders: false,
    // containerd again, whose shim keeps it to itself where the control group has gone by the time that it looks.
    oom: "most",
    async copies(deployment, id) {
      const { items } = await its.get("pods", "-l", `app.kubernetes.io/instance=${deployment},app.kubernetes.io/name=${id}`)
      const running = items.flatMap(({ status }) => status.containerStatuses ?? []).filter(({ state }) => state.running)
      return running.map(({ containerID }) => containerID)
    },
    where: { pod: expect.any(String), node: expect.any(String) },
    // The kubelet fetches them.
    fetches: [],
    // The daemon is there and asks for it again and again: it may be pushed yet.
    absent: () => ({ image: `${its.registry}/test/daemon:absent`, code: "DAEMON_NOT_UP" }),
  }
}

/** Printed by every program of the suite, so that it can be told from all others by its command line. */
const mark = (deployment, id) => `I am ${deployment}/${id}`

/** By name: why it cannot be had here, and how to open it, in a `describe` block of its own. */
const PLACES = {
  local: { missing: undefined, open: local },
  docker: { missing: missingEngine("docker"), platform: "local", open: () => engine("docker") },
  podman: { missing: missingEngine("podman"), platform: "local", open: () => engine("podman") },
  kubernetes: { missing: missing(), open: kubernetes },
}

module.exports = { PLACES, mark }
