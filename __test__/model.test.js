"use strict"

const alien = require("@alienplatform/core")
const { Daemon, Kv, Queue, Resource, Stack, Storage, ValidationError, Vault } = alien

const daemon = (id = "d") => new Daemon(id).code({ type: "image", image: "i" }).permissions("execution")

/** The issues of an error that `work` throws, as `path: message`. */
function problems(work) {
  try {
    work()
  } catch (error) {
    expect(error).toBeInstanceOf(ValidationError)
    return error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`)
  }
  throw new Error("nothing was thrown")
}

describe("what comes out", () => {
  test("a minimal daemon is exactly the contract", () => {
    const resource = daemon().build()
    expect(JSON.stringify(resource.config)).toBe(
      '{"type":"daemon","code":{"image":"i","type":"image"},"commandsEnabled":false,"environment":{},"id":"d","links":[],"permissions":"execution"}',
    )
    expect(Object.keys(resource)).toEqual(["config"])
    expect(resource).toBeInstanceOf(Resource)
    expect(resource.ref()).toStrictEqual({ type: "daemon", id: "d" })
  })

  test("everything that can be set stands in its alphabetical place", () => {
    const full = daemon()
      .stopGracePeriodSeconds(5)
      .memory("128Mi")
      .cpu({ min: "100m", desired: 0.5 })
      .command(["node", "main.js"])
      .commandsEnabled(true)
      .environment({ Z: "1", A: "2" })
      .link(new Kv("cache").build())
      .build()
    expect(JSON.stringify(full.config)).toBe(
      '{"type":"daemon","code":{"image":"i","type":"image"},"command":["node","main.js"],"commandsEnabled":true,"cpu":{"min":"100m","desired":"0.5"},"environment":{"A":"2","Z":"1"},"id":"d","links":[{"type":"kv","id":"cache"}],"memory":{"min":"128Mi","desired":"128Mi"},"permissions":"execution","stopGracePeriodSeconds":5}',
    )
  })

  test("source keeps its toolchain", () => {
    const toolchain = { type: "docker", dockerfile: "D", target: "t", buildArgs: { A: "b" } }
    const { config } = daemon().code({ type: "source", src: ".", toolchain }).build()
    expect(config.code).toStrictEqual({ type: "source", src: ".", toolchain })
  })

  test("the other resources are exactly the contract", () => {
    const json = [new Storage("s"), new Kv("k"), new Queue("q"), new Vault("v")].map((b) => JSON.stringify(b.build().config))
    expect(json).toEqual([
      '{"type":"storage","id":"s","lifecycleRules":[],"publicRead":false,"versioning":false}',
      '{"type":"kv","id":"k"}',
      '{"type":"queue","id":"q"}',
      '{"type":"vault","id":"v"}',
    ])
    expect([Daemon, Storage, Kv, Queue, Vault].map((type) => type.any())).toEqual(["daemon", "storage", "kv", "queue", "vault"])
  })

  test("a stack is plain data, id first inside it, in the order of the calls", () => {
    const stack = new Stack("edge")
      .add(new Vault("z").build(), "frozen", { remoteAccess: true })
      .add(daemon("a").build(), "live")
      .platforms(["local", "kubernetes"])
    expect(stack.id).toBe("edge")
    const built = stack.build()
    expect(JSON.stringify(built)).toBe(
      '{"id":"edge","resources":{"z":{"config":{"id":"z","type":"vault"},"dependencies":[],"lifecycle":"frozen","remoteAccess":true},"a":{"config":{"id":"a","type":"daemon","code":{"image":"i","type":"image"},"commandsEnabled":false,"environment":{},"links":[],"permissions":"execution"},"dependencies":[],"lifecycle":"live"}},"supportedPlatforms":["local","kubernetes"]}',
    )
    // Of this realm: equal to a literal, strictly.
    expect(new Stack("s").build()).toStrictEqual({ id: "s", resources: {} })
  })

  test("permissions come out as they went in", () => {
    const permissions = {
      management: { override: { d: ["daemon/management"] } },
      profiles: { execution: { "*": ["storage/data-read", { description: "y", id: "x", platforms: { aws: { n: 1 } } }] } },
    }
    expect(new Stack("s").add(daemon().build(), "live").permissions(permissions).build().permissions).toStrictEqual(permissions)
  })
})

describe("builders", () => {
  test("every method gives the builder, and building again gives a second, independent resource", () => {
    const builder = new Daemon("d")
    expect(builder.code({ type: "image", image: "i" })).toBe(builder)
    const variables = { A: "1" }
    const first = builder.permissions("p").environment(variables).build()
    variables.A = "changed later"
    const second = builder.environment({ B: "2" }).link(new Kv("k").build()).build()
    expect(first.config.environment).toEqual({ A: "1" })
    expect(first.config.links).toEqual([])
    expect(second.config.environment).toEqual({ B: "2" })
    expect(second.config.links).toHaveLength(1)
  })

  test("a resource is taken as plain data too", () => {
    const plain = JSON.parse(JSON.stringify(daemon().build()))
    expect(Object.keys(new Stack("s").add(plain, "live").build().resources)).toEqual(["d"])
  })

  test("what a getter throws is the user's own error", () => {
    const own = new RangeError("mine")
    const code = { get type() { throw own } }
    expect(() => new Daemon("d").code(code)).toThrow(own)
  })

  test("a proxy that throws for names it does not know is read by its own keys only", () => {
    const strict = new Proxy({ A: "1" }, {
      get(target, key) {
        if (!Object.hasOwn(target, key)) throw new Error(`no ${String(key)}`)
        return target[key]
      },
    })
    expect(daemon().environment(strict).build().config.environment).toEqual({ A: "1" })
  })

  test("a key named __proto__ is a key", () => {
    const { config } = daemon().environment(JSON.parse('{"__proto__":"x"}')).build()
    expect(Object.keys(config.environment)).toEqual(["__proto__"])
  })
})

describe("the error", () => {
  test("lists every problem, and is what programs expect of it", () => {
    const work = () => new Daemon("connector").environment({ "lower-case": "secret-value" }).build()
    expect(work).toThrow(ValidationError)
    expect(work).toThrow(alien.AlienError)
    let error
    try { work() } catch (thrown) { error = thrown }
    expect(error).toBeInstanceOf(Error)
    expect(error.message).toBe(
      `Daemon "connector" is invalid (3 problems):
  code: required, but not given (call .code({ type: "image", image: "registry/repository:tag" }))
  environment.lower-case: a variable's name is letters, digits and _, and does not begin with a digit
  permissions: required, but not given (call .permissions("execution") with the name of a profile)`,
    )
    expect(error).toMatchObject({ code: "VALIDATION_ERROR", httpStatusCode: 400, retryable: false, context: { resourceId: "connector" } })
    expect(error.issues[1].path).toEqual(["environment", "lower-case"])
    expect(JSON.stringify(error)).not.toContain("secret-value")
  })

  test("has a stack that begins at the line that called build", () => {
    let error
    try { new Daemon("d").build() } catch (thrown) { error = thrown }
    const frame = error.stack.split("\n").find((line) => line.startsWith("    at "))
    expect(frame).toContain("model.test.js")
    expect(error.stack).toMatch(/^ValidationError: Daemon "d" is invalid/)
  })
})

describe("every rule of a daemon", () => {
  test.each([
    ["no id", () => new Daemon().code({ type: "image", image: "i" }).permissions("p"), "id: required, but not given"],
    ["an id of another type", () => daemon(7), "id: expected string, received number"],
    ["an empty id", () => daemon(""), "id: expected at least 1 character, received an empty string"],
    ["an id with a space", () => daemon("a b"), 'id: expected only letters, digits, _ and -, received "a b"'],
    ["an id of 65", () => daemon("x".repeat(65)), "id: expected at most 64 characters, received 65"],
    ["code that is null", () => daemon().code(null), "code: expected object, received null"],
    ["code of a wrong type", () => daemon().code({ type: "imgae" }), 'code.type: expected "image" or "source", received "imgae"; did you mean "image"?'],
    ["code without type", () => daemon().code({}), 'code.type: expected "image" or "source", received undefined'],
    ["no image", () => daemon().code({ type: "image" }), "code.image: required, but not given"],
    ["an empty image", () => daemon().code({ type: "image", image: "" }), "code.image: expected at least 1 character, received an empty string"],
    ["a bad image", () => daemon().code({ type: "image", image: "a:" }), 'code.image: "a:" is not an image reference: the tag is empty'],
    ["an unknown key", () => daemon().code({ type: "image", image: "i", imgae: "x" }), 'code: unrecognized key "imgae"; did you mean "image"?'],
    ["source without src", () => daemon().code({ type: "source", toolchain: { type: "typescript" } }), "code.src: required, but not given"],
    ["source without toolchain", () => daemon().code({ type: "source", src: "." }), "code.toolchain: required, but not given"],
    ["an unknown toolchain", () => daemon().code({ type: "source", src: ".", toolchain: { type: "rusty" } }), 'code.toolchain.type: expected "rust", "typescript" or "docker", received "rusty"; did you mean "rust"?'],
    ["rust without a binary", () => daemon().code({ type: "source", src: ".", toolchain: { type: "rust" } }), "code.toolchain.binaryName: required, but not given"],
    ["a build argument that is no string", () => daemon().code({ type: "source", src: ".", toolchain: { type: "docker", buildArgs: { A: 1 } } }), "code.toolchain.buildArgs.A: expected string, received number"],
    ["a command as text", () => daemon().command("node x"), "command: expected array of strings, received string"],
    ["an empty command", () => daemon().command([]), "command: expected at least 1 string, received an empty array"],
    ["an empty argument", () => daemon().command(["a", ""]), "command.1: expected at least 1 character, received an empty string"],
    ["a NUL byte", () => daemon().command(["a\0b"]), "command.0: contains a NUL byte"],
    ["half a surrogate pair", () => daemon().command(["\ud800"]), "command.0: expected string, received string with half a surrogate pair"],
    ["commandsEnabled that is no boolean", () => daemon().commandsEnabled("yes"), "commandsEnabled: expected boolean, received string"],
    ["a method called with undefined", () => daemon().commandsEnabled(undefined), "commandsEnabled: expected boolean, received undefined"],
    ["no cpu", () => daemon().cpu(0), "cpu: expected at least 1m (a thousandth of a core), received 0"],
    ["NaN cores", () => daemon().cpu(NaN), 'cpu: expected a number of cores, a quantity such as "500m" or {min, desired}, received NaN'],
    ["more cpu at least than at most", () => daemon().cpu({ min: 2, desired: 1 }), "cpu.min: min (2) is more than desired (1)"],
    ["half of the bounds", () => daemon().cpu({ min: 2 }), "cpu.desired: required, but not given"],
    ["a unit nobody has", () => daemon().memory("128MB"), 'memory: "128MB" is not a Kubernetes quantity; did you mean "128M"?'],
    ["thousandths of bytes", () => daemon().memory("128m"), 'memory: expected at least 1Mi (1048576 bytes), received "128m"; did you mean "128Mi"?'],
    ["a variable that is undefined", () => daemon().environment({ A: undefined }), "environment.A: expected string, received undefined"],
    ["a variable that is a number", () => daemon().environment({ A: 1n }), "environment.A: expected string, received bigint"],
    ["a variable's name", () => daemon().environment({ "1A": "" }), "environment.1A: a variable's name is letters, digits and _, and does not begin with a digit"],
    ["our names", () => daemon().environment({ ALIEN_TRANSPORT: "" }), "environment.ALIEN_TRANSPORT: the name is reserved: the deployment sets what begins with ALIEN_"],
    ["a provider's names", () => daemon().environment({ GCP_REGION: "" }), "environment.GCP_REGION: the name is reserved: the deployment sets it"],
    ["a value with NUL", () => daemon().environment({ A: "\0" }), "environment.A: the value contains a NUL byte"],
    ["a value that no program can be given", () => daemon().environment({ A: "x".repeat(131070) }), "environment.A: expected at most 131071 bytes for name and value together, received 131072"],
    ["a Map of variables", () => daemon().environment(new Map()), "environment: expected object, received Map"],
    ["a promise", () => daemon().environment(Promise.resolve({})), "environment: expected object, received Promise"],
    ["a link to nothing", () => daemon().link(undefined), "links.0: expected a built resource or {type, id}, received undefined"],
    ["a link that was not built", () => daemon().link(new Kv("k")), "links.0: expected a built resource, received a Kv that was not built"],
    ["a link twice", () => daemon().link(new Kv("k").build()).link(new Kv("k").build()), 'links.1: "k" is linked twice'],
    ["a link to itself", () => daemon().link({ type: "daemon", id: "d" }), "links.0: a daemon cannot be linked to itself"],
    ["a link to a stranger", () => daemon().link({ type: "worker", id: "w" }), 'links.0.type: resources of type "worker" are not supported here, expected "daemon", "storage", "kv", "queue" or "vault"'],
    ["an empty profile", () => daemon().permissions(""), "permissions: expected at least 1 character, received an empty string"],
    ["a profile's name that is too long", () => daemon().permissions("p".repeat(129)), "permissions: expected at most 128 characters, received 129"],
    ["no grace", () => daemon().stopGracePeriodSeconds(0), "stopGracePeriodSeconds: expected a whole number from 1 to 86400, received 0"],
    ["too much grace", () => daemon().stopGracePeriodSeconds(86401), "stopGracePeriodSeconds: expected a whole number from 1 to 86400, received 86401"],
    ["half a second", () => daemon().stopGracePeriodSeconds(1.5), "stopGracePeriodSeconds: expected a whole number from 1 to 86400, received 1.5"],
  ])("%s", (_, builder, problem) => {
    expect(problems(() => builder().build())).toEqual([problem])
  })

  test("an object that contains itself ends", () => {
    const loop = { type: "image" }
    loop.image = loop
    expect(problems(() => daemon().code(loop).build())).toEqual(["code.image: expected string, received object that contains itself"])
  })
})

describe("every rule of a storage", () => {
  test.each([
    ["flags", () => new Storage("s").publicRead(1), "publicRead: expected boolean, received number"],
    ["versioning", () => new Storage("s").versioning(null), "versioning: expected boolean, received null"],
    ["rules", () => new Storage("s").lifecycleRules({}), "lifecycleRules: expected array, received object"],
    ["days", () => new Storage("s").lifecycleRules([{ days: 0 }]), "lifecycleRules.0.days: expected a whole number from 1 to 36500, received 0"],
    ["no days", () => new Storage("s").lifecycleRules([{}]), "lifecycleRules.0.days: required, but not given"],
    ["a rule's keys", () => new Storage("s").lifecycleRules([{ days: 1, prefx: "a" }]), 'lifecycleRules.0: unrecognized key "prefx"; did you mean "prefix"?'],
  ])("%s", (_, builder, problem) => {
    expect(problems(() => builder().build())).toEqual([problem])
  })
})

describe("every rule of a stack", () => {
  const d = daemon().build()
  const linked = daemon("l").link(new Kv("cache").build()).build()
  const stack = () => new Stack("s")
  const allow = (profiles, more) => stack().add(d, "live").permissions({ profiles: { execution: {}, ...profiles }, ...more })
  test.each([
    ["an id of 129", () => new Stack("x".repeat(129)), "id: expected at most 128 characters, received 129"],
    ["a daemon that was not built", () => stack().add(daemon(), "live"), "resources.0: expected a built resource, received a Daemon that was not built"],
    ["nothing added", () => stack().add(undefined, "live"), "resources.0: expected a built resource, received undefined"],
    ["a config instead of a resource", () => stack().add(d.config, "live"), "resources.0: expected a built resource, received an object without config"],
    ["an unsupported kind", () => stack().add({ config: { type: "worker", id: "w" } }, "live"), 'resources.w.config.type: resources of type "worker" are not supported here, expected "daemon", "storage", "kv", "queue" or "vault"'],
    ["a resource twice", () => stack().add(d, "live").add(d, "live"), 'resources.d: a resource "d" was already added'],
    ["a frozen daemon", () => stack().add(d, "frozen"), 'resources.d.lifecycle: a daemon is always "live", received "frozen"'],
    ["no lifecycle", () => stack().add(d), 'resources.d.lifecycle: expected "live", received undefined'],
    ["a misspelt lifecycle", () => stack().add(new Kv("k").build(), "frosen"), 'resources.k.lifecycle: expected "frozen" or "live", received "frosen"; did you mean "frozen"?'],
    ["a misspelt option", () => stack().add(d, "live", { remoteAcess: true }), 'resources.d: unrecognized key "remoteAcess"; did you mean "remoteAccess"?'],
    ["an option of another type", () => stack().add(d, "live", { remoteAccess: "yes" }), "resources.d.remoteAccess: expected boolean, received string"],
    ["a link to what is not there", () => stack().add(linked, "live").add(new Kv("cahce").build(), "live"), 'resources.l.config.links.0: no resource "cache" is in the stack; did you mean "cahce"?'],
    ["a link to another kind", () => stack().add(linked, "live").add(new Queue("cache").build(), "live"), 'resources.l.config.links.0: "cache" is a queue in this stack, not a kv'],
    ["a profile that is not defined", () => stack().add(d, "live").permissions({ profiles: { excution: {} } }), 'resources.d.config.permissions: no profile "execution" is defined: the stack\'s permissions define "excution"; did you mean "excution"?'],
    ["no platforms", () => stack().platforms([]), "supportedPlatforms: expected at least 1 platform, received an empty array"],
    ["a misspelt platform", () => stack().platforms(["kubernets"]), 'supportedPlatforms.0: expected "aws", "gcp", "azure", "kubernetes", "local" or "test", received "kubernets"; did you mean "kubernetes"?'],
    ["a platform twice", () => stack().platforms(["local", "local"]), 'supportedPlatforms.1: "local" is listed twice'],
    ["permissions without profiles", () => stack().permissions({}), "permissions.profiles: required, but not given"],
    ["an unknown key", () => stack().permissions({ profiles: {}, manage: "auto" }), 'permissions: unrecognized key "manage"'],
    ["a profile for what is not there", () => allow({ p: { x: [] } }), 'permissions.profiles.p.x: expected "*" or the id of a resource in the stack'],
    ["a set that is not there", () => allow({ p: { "*": ["storage/data-raed"] } }), 'permissions.profiles.p.*.0: no permission set "storage/data-raed" exists; did you mean "storage/data-read"?'],
    ["a set for another kind", () => allow({ p: { d: ["storage/data-read"] } }), 'permissions.profiles.p.d.0: "storage/data-read" is for a storage, but "d" is a daemon'],
    ["a daemon's data", () => allow({ p: { "*": ["daemon/data-read"] } }), 'permissions.profiles.p.*.0: no permission set "daemon/data-read" exists'],
    ["a set of another type", () => allow({ p: { "*": [1] } }), "permissions.profiles.p.*.0: expected a permission set's id or {id, description, platforms}, received number"],
    ["half an inline set", () => allow({ p: { "*": [{ id: "x", platforms: {} }] } }), "permissions.profiles.p.*.0.description: required, but not given"],
    ["a misspelt management", () => allow({}, { management: "Auto" }), 'permissions.management: expected "auto", {extend: profile} or {override: profile}, received "Auto"'],
    ["two managements", () => allow({}, { management: { extend: {}, override: {} } }), "permissions.management: expected either extend or override, received both"],
  ])("%s", (_, builder, problem) => {
    expect(problems(() => builder().build())).toEqual([problem])
  })

  test("without permissions, any profile will do", () => {
    expect(() => stack().add(d, "live").build()).not.toThrow()
  })
})
