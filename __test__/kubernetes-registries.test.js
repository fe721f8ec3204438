"use strict"

// Where a cluster gets its images: a registry that lets only some in, and one in the place of another.

const fs = require("node:fs")
const path = require("node:path")
const alien = require("@alienplatform/core")
const { daemon, failure, needs, stackOf, testBed, until } = require("./lib/bed.js")
const { missing, testCluster } = require("./lib/cluster.js")
const registries = require("./lib/registry.js")

jest.setTimeout(120_000)

needs(missing() ?? registries.missing()).describe("a cluster pulls", () => {
  const bed = testBed()
  const its = testCluster(bed)
  let registry

  beforeAll(async () => {
    registry = await registries.startRegistry(bed, { address: its.cluster.hostAddress, username: "ann", password: "first-word" })
    // Different images, so that what the node has of one does not stand for another.
    for (const tag of ["1", "2", "3"]) registry.push(await bed.image({ config: { Labels: { tag } } }), `team/app:${tag}`)
  })

  const stack = (id, reference) => stackOf(id, daemon("d", reference, "catch", "print=pulled"))
  const own = (tag) => `${registry.host}/team/app:${tag}`
  const given = () => ({ registries: { [registry.host]: { username: "ann", password: registry.password } } })
  const pullSecret = async (name) => {
    const { type, data } = await its.get("secret", `${name}-d-pull`)
    return { type, ...JSON.parse(Buffer.from(data[".dockerconfigjson"], "base64")) }
  }
  const auths = () => ({ [registry.host]: { username: "ann", password: registry.password, auth: Buffer.from(`ann:${registry.password}`).toString("base64") } })
  const pullSecrets = async (name) => (await its.get("deployment", `${name}-d`)).spec.template.spec.imagePullSecrets

  describe("from a registry with users", () => {
    test("nothing without credentials, and says what to do", async () => {
      const error = await failure(its.deploy(stack("nobody", own("1"))))
      expect(error).toMatchObject({ code: "DAEMON_NOT_UP", context: { reason: expect.stringMatching(/^(ErrImagePull|ImagePullBackOff)$/) }, hint: expect.stringContaining("--docker-config") })
      expect(error.message).toMatch(/^daemon "d" does not come up: (ErrImagePull|ImagePullBackOff): .*(authorization failed|no basic auth credentials|401 Unauthorized)/s)
    })

    test("with those of the options: the Secret is made, used, kept up to date and pruned, and shown nowhere", async () => {
      const told = []
      const onEvent = (event) => told.push(event)
      const deployment = await its.deploy(stack("given", own("1")), { kubernetes: given(), onEvent })
      await until(deployment, "d", /^pulled$/)
      expect(await pullSecret("given")).toEqual({ type: "kubernetes.io/dockerconfigjson", auths: auths() })
      expect(await pullSecrets("given")).toEqual([{ name: "given-d-pull" }])
      const { pod } = await its.one(deployment, "d")
      expect((await alien.plan(stack("given", own("1")), its.options({ kubernetes: given() }))).changes).toMatchObject([{ action: "none" }])

      registry.setPassword("second-word")
      const plan = await alien.plan(stack("given", own("1")), its.options({ kubernetes: given() }))
      expect(plan.changes[0].action).toBe("update")
      await its.deploy(stack("given", own("1")), { kubernetes: given(), onEvent })
      expect(await pullSecret("given")).toEqual({ type: "kubernetes.io/dockerconfigjson", auths: auths() })
      // What runs has been pulled already.
      expect(await its.one(deployment, "d")).toMatchObject({ state: "running", pod })
      await its.deploy(stack("given", own("2")), { kubernetes: given(), onEvent })
      expect(await its.one(deployment, "d")).toMatchObject({ state: "running", image: own("2") })

      await its.deploy(stack("given", own("2")), { onEvent })
      expect(await pullSecrets("given")).toBeUndefined()
      expect((await its.objects("given")).filter((name) => name.startsWith("Secret/"))).toEqual([])
      expect(JSON.stringify([told, plan, await deployment.status()])).not.toMatch(/(first|second)-word/)
      expect(JSON.stringify([told, plan])).not.toContain(Buffer.from(`ann:${registry.password}`).toString("base64").slice(0, 16))
    })

    test("with those of a Docker configuration, by the command", async () => {
      const dockerConfig = registry.dockerConfig()
      const file = path.join(bed.folder, "alien.js")
      fs.writeFileSync(file, `
        const alien = require("@alienplatform/core")
        const d = new alien.Daemon("d").code({ type: "image", image: ${JSON.stringify(own("3"))} }).command(["/bin/daemon", "catch"]).permissions("p").build()
        module.exports = new alien.Stack("file").add(d, "live").build()`)
      const deployed = await its.cli(["deploy", "--file", file, "--docker-config", dockerConfig])
      expect(deployed).toMatchObject({ code: 0, stderr: expect.stringContaining('✓ "file" is up.') })
      expect(deployed.stderr).not.toContain(registry.password)
      expect(await pullSecret("file")).toMatchObject({ auths: auths() })
    })
  })

  describe("from one registry in the place of another", () => {
    test("with the credentials for the one that it is", async () => {
      const kubernetes = { registries: { "ghcr.io": { host: registry.host } }, dockerConfig: registry.dockerConfig() }
      const deployment = await its.deploy(stack("moved", "ghcr.io/team/app:3"), { kubernetes })
      expect(await its.one(deployment, "d")).toMatchObject({ state: "running", image: own("3") })
      expect(await pullSecret("moved")).toMatchObject({ auths: auths() })
    })
  })
})
