"use strict"

// What daemons use, and what they may: in status, for programs and for people.

const { daemon, isRoot, stackOf, testBed, until, where } = require("./lib/bed.js")

const bed = testBed()
const MiB = 1024 * 1024
let image

beforeAll(async () => {
  image = await bed.image()
})

test("nothing is measured unless it is asked for", async () => {
  const deployment = await bed.deploy(stackOf("quiet", daemon("d", image, "ready")))
  expect(await bed.one(deployment, "d")).not.toHaveProperty("usage")
  expect(await bed.one(deployment, "d")).not.toHaveProperty("limits")
})

test("memory is that of all its processes, and processor time that of this run", async () => {
  const deployment = await bed.deploy(stackOf("eats", daemon("idle", image, "ready"), daemon("eats", image, `eat=${64 * MiB}`, "orphan=x", "print=fed", "ready")))
  await until(deployment, "eats", /^fed$/)
  const of = async () => Object.fromEntries((await deployment.status({ usage: true })).resources.map(({ id, usage }) => [id, usage]))
  const { idle, eats } = await of()
  expect(idle.memoryBytes).toBeGreaterThan(0)
  expect(idle.memoryBytes).toBeLessThan(16 * MiB)
  expect(eats.memoryBytes).toBeGreaterThanOrEqual(64 * MiB)
  expect(idle.cpuCores).toBeLessThan(0.5)
  expect(eats.cpuSeconds).toBeGreaterThanOrEqual(0)
})

test("a program that computes is seen to, and what does not run uses nothing", async () => {
  const deployment = await bed.deploy(stackOf("spins", daemon("spins", image, "ready", "spin")))
  const { usage } = (await deployment.status({ usage: true })).resources[0]
  expect(usage.cpuCores).toBeGreaterThan(0)
  const later = (await deployment.status({ usage: true })).resources[0].usage
  expect(later.cpuSeconds).toBeGreaterThanOrEqual(usage.cpuSeconds)
  await deployment.destroy()
})

where(isRoot).test("limits are shown, and memory as it counts towards its own", async () => {
  const limited = daemon("d", image, `eat=${16 * MiB}`, "ready").cpu(0.5).memory("64Mi")
  const deployment = await bed.deploy(stackOf("limited", limited))
  const [{ limits, usage }] = (await deployment.status({ usage: true })).resources
  expect(limits).toEqual({ cpuCores: 0.5, memoryBytes: 64 * MiB })
  expect(usage.memoryBytes).toBeGreaterThanOrEqual(16 * MiB)
  expect(usage.memoryBytes).toBeLessThanOrEqual(64 * MiB)
  const { stdout } = await bed.cli(["status", "-n", "limited"])
  expect(stdout).toMatch(/^ID +TYPE +STATE +PID +UP +RESTARTS +CPU +MEMORY +LAST EXIT +IMAGE$/m)
  expect(stdout).toMatch(/^d +daemon +running +\d+ +\d+s +0 +[\d.]+% \/ 50% +[\d.]+ MiB \/ 64\.0 MiB +- +oci:/m)
  const json = JSON.parse((await bed.cli(["status", "-n", "limited", "--json"])).stdout)
  expect(json.resources[0]).toMatchObject({ limits, usage: { cpuCores: expect.any(Number), cpuSeconds: expect.any(Number), memoryBytes: expect.any(Number) } })
})
