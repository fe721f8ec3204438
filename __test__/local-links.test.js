"use strict"

// Linked resources: what a daemon finds, and what it may do there.

const alien = require("@alienplatform/core")
const { allLines, daemon, manyUsers, stackOf, testBed, until, where } = require("./lib/bed.js")

const bed = testBed()
let image
const bucket = new alien.Storage("my-bucket").build()
const PATH = "/run/alien/my-bucket"

beforeAll(async () => {
  image = await bed.image()
})

const text = async (deployment, id) => (await allLines(deployment, id)).map(({ line }) => line)

function stack(id, profiles, ...daemons) {
  const stack = new alien.Stack(id).add(bucket, "frozen")
  for (const one of daemons) stack.add(one.build(), "live")
  return (profiles ? stack.permissions({ profiles }) : stack).build()
}

test("each kind arrives as its variable, with a path that can be opened", async () => {
  const kinds = [new alien.Storage("a-storage"), new alien.Kv("kv1"), new alien.Queue("Q_2"), new alien.Vault("safe")].map((one) => one.build())
  const linked = kinds.reduce((builder, one) => builder.link(one), daemon("d", image, "env", ...["a-storage", "kv1", "Q_2", "safe"].map((id) => `write=/run/alien/${id}/x:y`), "print=end", "ready"))
  const deployment = await bed.deploy(stackOf("kinds", ...kinds, linked))
  await until(deployment, "d", /^end$/)
  const lines = await text(deployment, "d")
  const binding = (name) => JSON.parse(lines.find((line) => line.startsWith(`env ${name}=`)).split(/=(.*)/s)[1])
  expect(binding("ALIEN_A_STORAGE_BINDING")).toEqual({ service: "local-storage", storagePath: "file:///run/alien/a-storage/" })
  expect(binding("ALIEN_KV1_BINDING")).toEqual({ service: "local-kv", dataDir: "/run/alien/kv1" })
  expect(binding("ALIEN_Q_2_BINDING")).toEqual({ service: "local-queue", queuePath: "/run/alien/Q_2" })
  expect(binding("ALIEN_SAFE_BINDING")).toEqual({ service: "local-vault", vaultName: "safe", dataDir: "/run/alien/safe" })
  expect(lines.filter((line) => line.startsWith("wrote"))).toHaveLength(4)
  expect((await deployment.status()).resources.map(({ id, type, state }) => `${id} ${type} ${state}`)).toEqual([
    "a-storage storage running", "kv1 kv running", "Q_2 queue running", "safe vault running", "d daemon running",
  ])
})

test("what the profile grants is what it gets: read and write, read alone, nothing; two daemons share one storage", async () => {
  const steps = [`write=${PATH}/from:me`, `list=${PATH}`, "env", "print=end", "ready"]
  const profiles = { writer: { "my-bucket": ["storage/data-read", "storage/data-write"] }, reader: { "*": ["storage/data-read"] }, nobody: {} }
  const one = (id, profile, ...work) => daemon(id, image, ...work).permissions(profile).link(bucket)
  const deployment = await bed.deploy(stack("granted", profiles, one("w", "writer", `write=${PATH}/shared:hello`, "print=end", "ready"), one("n", "nobody", ...steps)))
  await bed.deploy(stack("granted", profiles, one("w", "writer", `write=${PATH}/shared:hello`, "print=end", "ready"), one("r", "reader", `read=${PATH}/shared`, ...steps), one("n", "nobody", ...steps)))
  await until(deployment, "w", /^end$/)
  await until(deployment, "r", /^end$/)
  await until(deployment, "n", /^end$/)
  expect(await text(deployment, "w")).toEqual([`wrote ${PATH}/shared`, "end"])
  const reader = await text(deployment, "r")
  expect(reader).toEqual(expect.arrayContaining([`read ${PATH}/shared: hello`, `write ${PATH}/from: ReadOnlyFilesystem`, `list ${PATH}: shared`]))
  const nobody = await text(deployment, "n")
  expect(nobody).toEqual(expect.arrayContaining([`write ${PATH}/from: NotFound`, `list ${PATH}: NotFound`]))
  expect(nobody.join("\n")).not.toContain("BINDING")
})

test("without permissions in the stack, linked means both", async () => {
  const deployment = await bed.deploy(stack("plain", undefined, daemon("d", image, `write=${PATH}/x:y`, "print=end", "ready").link(bucket)))
  await until(deployment, "d", /^end$/)
  expect(await text(deployment, "d")).toEqual([`wrote ${PATH}/x`, "end"])
})

test("a change of permissions is planned, and takes effect with what was stored kept", async () => {
  const build = (...sets) => stack("changing", { p: { "*": sets } }, daemon("d", image, `append=${PATH}/x:y`, `read=${PATH}/x`, "print=end", "ready").permissions("p").link(bucket))
  const deployment = await bed.deploy(build("storage/data-read", "storage/data-write"))
  await until(deployment, "d", /^end$/)
  const plan = await alien.plan(build("storage/data-read"), bed.options())
  expect(plan.changes.find(({ id }) => id === "d").fields).toEqual([{ path: "links.my-bucket", from: "storage (read-write)", to: "storage (read-only)" }])
  await bed.deploy(build("storage/data-read"))
  await until(deployment, "d", /^end$/, 2)
  expect(await text(deployment, "d")).toEqual([`wrote ${PATH}/x`, `read ${PATH}/x: y`, "end", `write ${PATH}/x: ReadOnlyFilesystem`, `read ${PATH}/x: y`, "end"])
})

test("what is stored outlives destroy, and goes with its data", async () => {
  const build = () => stack("lasting", undefined, daemon("d", image, `append=${PATH}/x:y`, `read=${PATH}/x`, "print=end", "ready").link(bucket))
  const run = async () => {
    const deployment = await bed.deploy(build())
    await until(deployment, "d", /^end$/)
    return [deployment, (await text(deployment, "d"))[1]]
  }
  let [deployment, read] = await run()
  expect(read).toBe(`read ${PATH}/x: y`)
  await deployment.destroy()
  ;[deployment, read] = await run()
  expect(read).toBe(`read ${PATH}/x: yy`)
  await deployment.destroy({ data: true })
  ;[deployment, read] = await run()
  expect(read).toBe(`read ${PATH}/x: y`)
  await deployment.destroy({ data: true })
})

where(manyUsers()).test("a daemon that is not root may write what it is granted", async () => {
  const asUser = await bed.image({ config: { User: "app" } })
  const deployment = await bed.deploy(stack("users", undefined, daemon("d", asUser, `write=${PATH}/x:y`, "print=end", "ready").link(bucket)))
  await until(deployment, "d", /^end$/)
  expect(await text(deployment, "d")).toEqual([`wrote ${PATH}/x`, "end"])
})
