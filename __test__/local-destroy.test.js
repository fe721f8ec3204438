"use strict"

// Destroying: many at once, and what an earlier destroy was killed over.

const fs = require("node:fs")
const path = require("node:path")
const alien = require("@alienplatform/core")
const { daemon, eventually, stackOf, testBed } = require("./lib/bed.js")

const bed = testBed()
let image
beforeAll(async () => {
  image = await bed.image()
})

const folder = (name) => path.join(bed.stateDir, "deployments", name)

test("many daemons go together, time after time, and their scanner with them", async () => {
  const ids = Array.from({ length: 20 }, (_, index) => `d${index}`)
  for (let round = 0; round < 5; round++) {
    const deployment = await bed.deploy(stackOf("many", ...ids.map((id) => daemon(id, image, "ready"))))
    await deployment.destroy({ timeoutMs: 15_000 })
    expect(fs.existsSync(folder("many"))).toBe(false)
  }
  await eventually(() => bed.helpers(), (helpers) => helpers.length === 0)
}, 60_000)

test("what is left of a removal that was killed is removed, and never started", async () => {
  const deployment = await bed.deploy(stackOf("half", daemon("keep", image, "ready"), daemon("gone", image, "count", "ready")))
  const gone = path.join(folder("half"), "daemons", "gone")
  // As a kill between the last files leaves it: the spec has gone, the mark and the folder have not; then neither.
  for (const left of [["removed"], []]) {
    const aside = path.join(folder("half"), "daemons", "left")
    fs.mkdirSync(aside)
    left.forEach((name) => fs.writeFileSync(path.join(aside, name), ""))
    await bed.deploy(stackOf("half", daemon("keep", image, "ready"), daemon("gone", image, "count", "ready")))
    await eventually(() => fs.existsSync(aside), (exists) => !exists)
  }
  expect(fs.existsSync(gone)).toBe(true)
  await deployment.destroy()
  await expect(alien.connect(bed.options({ name: "half" }))).rejects.toMatchObject({ code: "DEPLOYMENT_NOT_FOUND" })
})
