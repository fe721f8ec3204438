"use strict"

// The manager's image: made of the package alone, the same each time, in a registry or in a file.

const { execFileSync } = require("node:child_process")
const fs = require("node:fs")
const path = require("node:path")
const { needs, testBed } = require("./lib/bed.js")
const manager = require("./lib/manager.js")
const registries = require("./lib/registry.js")

jest.setTimeout(60_000)

const bed = testBed()
const image = async (args, options) => {
  const { code, stdout, stderr } = await bed.cli(["manager", "image", ...args, "--json"], options)
  return { code, stderr, ...(code === 0 ? JSON.parse(stdout) : JSON.parse(stdout || "{}").error) }
}
const inspect = (reference, ...more) => JSON.parse(execFileSync("skopeo", ["inspect", ...more, reference], { encoding: "utf8" }))

needs(manager.missing ?? registries.missing()).describe("the manager's image", () => {
  test("in a file is what other tools read, holds the program and nothing of this machine, and is always the same", async () => {
    const file = path.join(bed.folder, "manager.tar")
    const made = await image(["--output", "oci-archive:manager.tar:1"], { cwd: bed.folder })
    expect(made).toMatchObject({ code: 0, image: `oci-archive:${file}:1`, digest: expect.stringMatching(/^sha256:[0-9a-f]{64}$/) })
    // An ordinary user's skopeo opens it only where every folder is a member.
    expect(execFileSync("tar", ["-tf", file], { encoding: "utf8" })).toMatch(/^blobs\/\nblobs\/sha256\/\nblobs\/sha256\/./)
    const archived = `oci-archive:${file}:1`
    expect(inspect(archived)).toMatchObject({ Digest: made.digest, Os: "linux", Labels: { "org.opencontainers.image.title": "alien-manager" } })
    expect(inspect(archived, "--config").config).toMatchObject({ User: "65532:65532", Entrypoint: ["/alien-manager"] })
    const dir = path.join(bed.folder, "layout")
    expect((await image(["--output", `oci:${dir}`])).digest).toBe(made.digest)
    const { layers } = inspect(`oci:${dir}`, "--raw")
    expect(layers).toHaveLength(1)
    const layer = path.join(dir, "blobs/sha256", layers[0].digest.slice(7))
    const listed = execFileSync("tar", ["-tvzf", layer, "--numeric-owner", "--full-time"], { encoding: "utf8", env: { ...process.env, TZ: "UTC" } })
    expect(listed.trim().split("\n").map((line) => line.replace(/ +/g, " "))).toEqual([
      expect.stringMatching(/^-rwxr-xr-x 0\/0 \d+ 1970-01-01 00:00:00 alien-manager$/),
      "drwx------ 65532/65532 0 1970-01-01 00:00:00 data/",
    ])
    const unpacked = path.join(bed.folder, "unpacked")
    fs.mkdirSync(unpacked)
    execFileSync("tar", ["-xzf", layer, "-C", unpacked, "alien-manager"])
    expect(execFileSync(path.join(unpacked, "alien-manager"), ["--version"], { encoding: "utf8" })).toMatch(/^alien-manager \d/)
  })

  describe("in a registry", () => {
    test("without users is pushed once: the second time there is nothing to send", async () => {
      const registry = await registries.startRegistry(bed, {})
      const pushed = await image(["push", `${registry.host}/alien/manager:1`])
      expect(pushed).toMatchObject({ code: 0, image: `${registry.host}/alien/manager:1@${pushed.digest}` })
      expect(await image(["push", `${registry.host}/alien/manager:1`])).toMatchObject({ code: 0, image: pushed.image })
      expect(inspect(`docker://${registry.host}/alien/manager:1`, "--tls-verify=false").Digest).toBe(pushed.digest)
      // A mirror is for pulling: what is pushed goes to the registry itself.
      const mirrored = await image(["push", `${registry.host}/alien/manager:2`, "--mirror", `${registry.host}=http://127.0.0.1:9`])
      expect(mirrored).toMatchObject({ code: 0, digest: pushed.digest })
    })

    test("with users takes the credentials of the Docker configuration, and is refused with words and without the password", async () => {
      const registry = await registries.startRegistry(bed, { username: "ann", password: "s3cret-word" })
      const reference = `${registry.host}/team/manager:1`
      const without = await image(["push", reference, "--docker-config", path.join(bed.folder, "none.json")])
      expect(without).toMatchObject({ code: "IMAGE_NOT_PUSHED", hint: expect.stringContaining(`docker login ${registry.host}`) })
      expect(without.message).toMatch(/cannot be pushed: the registry 127\.0\.0\.1:\d+ answered 401/)
      const pushed = await image(["push", reference, "--docker-config", registry.dockerConfig()])
      expect(pushed).toMatchObject({ code: 0 })
      expect(inspect(`docker://${reference}`, "--tls-verify=false", "--creds=ann:s3cret-word").Digest).toBe(pushed.digest)
      const config = registry.dockerConfig()
      registry.setPassword("another-word")
      const wrong = await image(["push", reference, "--docker-config", config])
      expect(wrong.code).toBe("IMAGE_NOT_PUSHED")
      expect(JSON.stringify(wrong)).not.toContain("s3cret-word")
    })
  })

  test.each([
    ["no place", [], "ERROR", /needs --output/],
    ["a folder to be pushed to", ["push", "oci:/tmp/x"], "INVALID_IMAGE", /is no registry's/],
    ["a registry to be written to", ["--output", "ghcr.io/a/b"], "INVALID_IMAGE", /is a registry's/],
    ["a digest of one's own", ["push", `127.0.0.1:9/a@sha256:${"0".repeat(64)}`], "INVALID_IMAGE", /names a digest/],
    ["a registry that is away", ["push", "127.0.0.1:9/a/b:1"], "REGISTRY_UNREACHABLE", /connection refused/],
  ])("%s is told", async (_, args, code, message) => {
    const { stderr, ...answer } = await image(args)
    expect(answer.code).toBe(code)
    expect(stderr).toMatch(message)
  })
})
