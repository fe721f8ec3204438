// The half of the types that is written by hand: what is JavaScript. The other half, the shapes of data, comes from the
// documentation of the Rust code below src/node. `npm run build:types` joins them into index.d.ts.

/** Where a stack runs. */
export type Platform = "aws" | "gcp" | "azure" | "kubernetes" | "local" | "test"
/** `frozen`: made once, at the first deploy. `live`: updated by every deploy. */
export type Lifecycle = "frozen" | "live"
/** The kinds of resources. */
export type ResourceType = "daemon" | "storage" | "kv" | "queue" | "vault"
/** What a daemon runs. */
export type DaemonCode = ImageCode | SourceCode
/** What would build a daemon's source. */
export type Toolchain = RustToolchain | TypescriptToolchain | DockerToolchain
/** What a built resource holds. */
export type ResourceConfig = DaemonConfig | StorageConfig | KvConfig | QueueConfig | VaultConfig

/** CPU: cores as a number, or a Kubernetes quantity such as `"500m"`; the same for request and share, or each. */
export type CpuAmount = number | string | { min: number | string; desired: number | string }
/** Memory: bytes as a number, or a Kubernetes quantity such as `"128Mi"`; the same for request and limit, or each. */
export type MemoryAmount = number | string | { min: number | string; desired: number | string }

/** A set of rights that is built in. */
export type PermissionSetId =
  | `${"storage" | "kv" | "queue" | "vault"}/${"data-read" | "data-write" | "heartbeat" | "management" | "provision"}`
  | `daemon/${"heartbeat" | "management" | "provision"}`
/** Rights by the resource they are for: an id of the stack, or `*` for every resource of the set's type. */
export type PermissionProfile = Record<string, (PermissionSetId | InlinePermissionSet)[]>

/** Something that was built. */
export declare class Resource<Config extends { type: ResourceType; id: string } = ResourceConfig> {
  constructor(config: Config)
  readonly config: Config
  /** A reference to it: `{type, id}`. */
  ref(): { type: Config["type"]; id: string }
}

/**
 * An always-on process: it runs until it is removed, and is restarted whenever it ends.
 *
 * Methods gather; `build()` checks everything at once. It may be built again after a change, which gives a second,
 * independent resource.
 *
 * @example
 * const connector = new Daemon("connector")
 *   .code({ type: "image", image: "ghcr.io/acme/connector:2026-05-17" })
 *   .permissions("execution")
 *   .build()
 */
export declare class Daemon {
  /** @param id letters, digits, `-` and `_`; at most 64 */
  constructor(id: string)
  /** The type that stands for any daemon: `"daemon"`. */
  static any(): "daemon"
  /** What it runs. Required. */
  code(code: DaemonCode): this
  /**
   * What to run instead of the image's entry point and command, as argv; there is no shell.
   * @default what the image says
   */
  command(argv: string[]): this
  /**
   * Whether it takes commands.
   * @default false
   */
  commandsEnabled(enabled: boolean): this
  /**
   * Its share of the machine's CPU, never a cap.
   * @default no wish; Kubernetes then requests 0.1
   */
  cpu(amount: CpuAmount): this
  /**
   * Its variables. A second call replaces them all. Names that begin with `ALIEN_`, and a few that deployments set,
   * are reserved.
   */
  environment(variables: Record<string, string>): this
  /** Binds a resource of the same stack; the profile says what may be done with it. */
  link(resource: Resource<any> | { type: ResourceType; id: string }): this
  /**
   * The memory it is given.
   * @default no limit; Kubernetes then requests 128Mi
   */
  memory(amount: MemoryAmount): this
  /** The profile it runs under, one of the stack's. Required. */
  permissions(profile: string): this
  /**
   * Seconds from the stop signal to the kill, 1 to 86400.
   * @default 30
   */
  stopGracePeriodSeconds(seconds: number): this
  /** @throws {ValidationError} that lists every problem */
  build(): Resource<DaemonConfig>
}

/** An object store. */
export declare class Storage {
  constructor(id: string)
  static any(): "storage"
  /** For how long objects are kept. */
  lifecycleRules(rules: LifecycleRule[]): this
  /**
   * Whether anybody may read, without credentials.
   * @default false
   */
  publicRead(enabled: boolean): this
  /**
   * Whether what is overwritten or deleted is kept as an older version.
   * @default false
   */
  versioning(enabled: boolean): this
  /** @throws {ValidationError} that lists every problem */
  build(): Resource<StorageConfig>
}

/** A key-value store. */
export declare class Kv {
  constructor(id: string)
  static any(): "kv"
  /** @throws {ValidationError} that lists every problem */
  build(): Resource<KvConfig>
}

/** A queue. */
export declare class Queue {
  constructor(id: string)
  static any(): "queue"
  /** @throws {ValidationError} that lists every problem */
  build(): Resource<QueueConfig>
}

/** A vault of secrets. */
export declare class Vault {
  constructor(id: string)
  static any(): "vault"
  /** @throws {ValidationError} that lists every problem */
  build(): Resource<VaultConfig>
}

/** A set of resources that is deployed as one. */
export declare class Stack {
  /** @param id letters, digits, `-` and `_`; at most 128 */
  constructor(id: string)
  readonly id: string
  /** Adds a resource. A daemon is always `"live"`. */
  add(resource: Resource<DaemonConfig>, lifecycle: "live", options?: AddOptions): this
  add(resource: Resource<StorageConfig | KvConfig | QueueConfig | VaultConfig>, lifecycle: Lifecycle, options?: AddOptions): this
  /**
   * Where the stack may run.
   * @default every platform
   */
  platforms(platforms: Platform[]): this
  /**
   * Who may do what.
   * @default every link may be read and written
   */
  permissions(permissions: Permissions): this
  /**
   * The stack as plain data.
   * @throws {ValidationError} that lists every problem
   */
  build(): StackConfig
}

export interface AddOptions {
  /**
   * Whether it may be reached from outside its environment.
   * @default false
   */
  remoteAccess?: boolean
}

export interface PreflightOptions {
  platform: Platform
  /** External bindings by resource id, as `deploy` takes them. */
  bindings?: Record<string, ExternalBinding>
  signal?: AbortSignal
}

/**
 * Whether a stack can run on a platform. Runs every check and touches nothing: no network, no file.
 *
 * @throws {ValidationError} when the stack or the options are not valid
 */
export declare function preflight(stack: StackConfig, options: PreflightOptions): Promise<PreflightReport>

/** A value that a Secret of the daemon's namespace holds. It is never read by whoever deploys. */
export interface SecretRef {
  secretRef: {
    /** The Secret's name. */
    name: string
    key: string
  }
}
/** A field of a binding: as it is, or the Secret that it is in. */
export type BindingText = string | SecretRef

/**
 * Where a resource is that the platform has none of: its type, the service it is found at, and what that one needs.
 *
 * @example
 * { type: "kv", service: "redis", connectionUrl: { secretRef: { name: "redis", key: "url" } } }
 */
export type ExternalBinding =
  | { type: "storage"; service: "s3"; bucketName: BindingText }
  | { type: "storage"; service: "blob"; accountName: BindingText; containerName: BindingText }
  | { type: "storage"; service: "gcs"; bucketName: BindingText }
  | { type: "kv"; service: "dynamodb"; tableName: BindingText; region: BindingText; endpointUrl?: BindingText }
  | { type: "kv"; service: "firestore"; projectId: BindingText; databaseId: BindingText; collectionName: BindingText }
  | {
      type: "kv"
      service: "tablestorage"
      resourceGroupName: BindingText
      accountName: BindingText
      tableName: BindingText
    }
  | { type: "kv"; service: "redis"; connectionUrl: BindingText; keyPrefix?: BindingText; database?: number }
  | { type: "queue"; service: "sqs"; queueUrl: BindingText }
  | { type: "queue"; service: "pubsub"; topic: BindingText; subscription: BindingText }
  | { type: "queue"; service: "servicebus"; namespace: BindingText; queueName: BindingText }
  /** A Secret `<vaultPrefix>-<name>` for each value, in its key `value`. The daemon's rights are made from both fields. */
  | { type: "vault"; service: "kubernetes-secret"; namespace: string; vaultPrefix: string }
  | { type: "vault"; service: "parameter-store"; vaultPrefix: BindingText }
  | { type: "vault"; service: "secret-manager"; vaultPrefix: BindingText }
  | { type: "vault"; service: "key-vault"; vaultName: BindingText }

/** What a resource is doing. */
export type ResourceState = "pending" | "starting" | "running" | "crash-looping" | "stopping" | "stopped" | "failed"
/** What is told while a call is under way. */
export type DeployEvent = PreflightEvent | WaitingEvent | PlanEvent | ImageEvent | ResourceEvent

/** Options of `deployment.status`. */
export interface StatusOptions extends CallOptions {
  /**
   * Whether to measure what the daemons use, which takes a tenth of a second. On Kubernetes nothing is measured.
   * @default false
   */
  usage?: boolean
}

/** Options of every call of the engine. */
export interface CallOptions {
  /**
   * Ends the call early: its promise is rejected with the signal's reason. What was done so far stays, and deploying
   * again goes on from there.
   */
  signal?: AbortSignal
  /**
   * Milliseconds after which the call gives up with `TIMEOUT`, 1 to 86400000.
   * @default 600000
   */
  timeoutMs?: number
  /** Called for every event, in order, before the call is over. What it throws ends the call, with that error. */
  onEvent?: (event: DeployEvent) => void
}

/** Where a deployment is. */
export interface PlatformOptions {
  /** @default "local" */
  platform?: "local" | "kubernetes"
  /** How this machine is used, where the platform is `local`. */
  local?: LocalOptions
  /** Which cluster and how, where the platform is `kubernetes`. */
  kubernetes?: KubernetesOptions
}

/** Options of {@link deploy} and {@link plan}. */
export interface DeployOptions extends CallOptions, PlatformOptions {
  /**
   * The deployment's name: letters, digits, `-` and `_`, at most 128.
   * @default the stack's id
   */
  name?: string
  /**
   * Environment that is shown nowhere: daemon id → name → value. One that is left out by a later deploy keeps its value.
   * Variables of `environment()` whose names sound secret (`…PASSWORD`, `…TOKEN`, `…KEY`) are masked in plans too.
   */
  secrets?: Record<string, Record<string, string>>
  /**
   * Where linked resources are that the platform has none of, by their ids. Kubernetes needs one for each storage, kv and
   * queue that a daemon is linked to; Local binds everything itself and takes none.
   */
  bindings?: Record<string, ExternalBinding>
  /**
   * A manager of commands that runs elsewhere.
   * @default Local starts its own; on Kubernetes the one that `alien manager install` has put into the namespace
   */
  manager?: ManagerOptions
}

/** Options of {@link connect}. */
export interface ConnectOptions extends CallOptions, PlatformOptions {
  /** The deployment's name; by default that was its stack's id. */
  name: string
  /** The manager that it was deployed with, where that runs elsewhere: `destroy` then takes its tokens back there. */
  manager?: ManagerOptions
}

/** A manager of commands that runs elsewhere. */
export interface ManagerOptions {
  /** Its `http://` or `https://` address, as daemons reach it too. */
  url: string
  /** An administrator's token: with it, tokens for daemons and callers are made there. It is not kept. */
  token: string
  /**
   * What the deployment is called there: letters, digits, `-` and `_`, at most 128.
   * @default the deployment's name
   */
  deploymentId?: string
  /**
   * A file with PEM certificates that an `https://` manager's own is to be signed with, in place of the system's. Daemons and
   * callers are given its contents: with others, daemons start anew.
   * @default `ALIEN_COMMANDS_CA_FILE`, else the system's, and in daemons Node's
   */
  caFile?: string
}

/** Options of Local. */
export interface LocalOptions {
  /**
   * Absolute path of the folder that holds everything: images, daemons, logs and data.
   * @default `ALIEN_STATE_DIR`, else /var/lib/alien for root, else $XDG_STATE_HOME/alien
   */
  stateDir?: string
  /** By host, such as `ghcr.io` or `127.0.0.1:5000`. */
  registries?: Record<string, RegistryOptions>
  /**
   * Docker's configuration file, which holds credentials.
   * @default `REGISTRY_AUTH_FILE`, else $DOCKER_CONFIG/config.json, else ~/.docker/config.json
   */
  dockerConfig?: string
  /**
   * What daemons of a new deployment run under: processes of this machine, or a container engine, Docker or Podman. `auto` is
   * `process` where this machine can make sandboxes, else `engine` where one answers. A deployment keeps what it was made
   * with.
   * @default `ALIEN_RUNTIME`, else "auto"
   */
  runtime?: "auto" | "process" | "engine"
  /**
   * Where the container engine listens that daemons of new deployments run under, and that `docker-daemon:` images are in:
   * `unix:///PATH` or `tcp://HOST:PORT`. With `DOCKER_TLS_VERIFY`, one at a port is asked by TLS, with the `ca.pem`, `cert.pem` and
   * `key.pem` of `DOCKER_CERT_PATH` (else `~/.docker`); `tls://HOST:PORT/FOLDER` is the same, and what a deployment remembers.
   * @default `DOCKER_HOST`, else unix:///var/run/docker.sock, and for daemons then Podman's socket of this account or of root
   */
  dockerHost?: string
  /**
   * When a registry is asked for a tag: `missing` only when the image is not here, `always` at every deploy; `auto` is
   * `always` for the tag `latest`, else `missing`.
   * @default "auto"
   */
  pull?: "auto" | "always" | "missing"
  /**
   * Layers that are downloaded at once, over all images of a call: 1 to 64.
   * @default 4
   */
  downloads?: number
  /**
   * The most bytes that all images may have on disk, as a number or a Kubernetes quantity such as `"20Gi"`. What would
   * make them more is not fetched: `STORE_OVER_LIMIT`.
   * @default no limit
   */
  storeMaxBytes?: number | string
}

/** How one registry is reached. */
export interface RegistryOptions {
  /**
   * URLs that are asked before it, in this order: `http://127.0.0.1:5000`. One that does not answer, or answers 404 or
   * 5xx, is followed by the next, the last by the registry itself; an event says which one was used. Credentials of the
   * registry are not sent there; a mirror's host may have its own entry.
   * @default `ALIEN_REGISTRY_MIRRORS` (`HOST=URL,…`)
   */
  mirror?: string | string[]
  /**
   * Whether plain HTTP may be spoken. Loopback always may.
   * @default false
   */
  insecure?: boolean
  /** A PEM file with the certificate authority of its certificate. */
  caFile?: string
  /** With `password`; goes before what Docker's configuration says. */
  username?: string
  password?: string
}

/** Options of Kubernetes. */
export interface KubernetesOptions {
  /**
   * Path of the kubeconfig, or several with `:` between, the first one first.
   * @default `KUBECONFIG`, else ~/.kube/config, else what a pod is given
   */
  kubeconfig?: string
  /** @default the kubeconfig's current one */
  context?: string
  /** @default the context's, in a pod its own, else `default` */
  namespace?: string
  /**
   * Whether the namespace is made where it is missing. It is never removed.
   * @default false
   */
  createNamespace?: boolean
  /**
   * Whether fields that somebody else manages are taken over; otherwise that is an error which names them.
   * @default false
   */
  forceConflicts?: boolean
  /**
   * What becomes of an update that does not come up: the version before is brought back, or it is kept to be looked at.
   * @default "rollback"
   */
  onFailure?: "rollback" | "keep"
  /** How the cluster reaches registries, by the host that images name: `ghcr.io`, `docker.io` for Docker Hub. */
  registries?: Record<string, KubernetesRegistry>
  /**
   * A Docker configuration file whose credentials for the images' registries go into an image pull Secret.
   * @default none: the cluster pulls with what it has
   */
  dockerConfig?: string
}

/** How the cluster reaches one registry. */
export interface KubernetesRegistry {
  /**
   * `HOST` or `HOST:PORT` that takes its place in the images' names.
   * @default itself
   */
  host?: string
  /** With `password`; goes into an image pull Secret, and before what `dockerConfig` says. */
  username?: string
  password?: string
}

/** Which lines of a log. */
export interface LogOptions {
  /** Only the last so many of those that are there. */
  tail?: number
  /** Only lines from then on: a Date, an RFC 3339 time, or milliseconds since 1970. */
  since?: Date | string | number
  /** Only lines up to then, and with `follow` no longer than until then: as `since`. */
  until?: Date | string | number
  /**
   * Whether to go on with what comes, until the daemon is removed.
   * @default false
   */
  follow?: boolean
  /**
   * Those of the run before the present one instead: what a daemon that was restarted said last. Not together with
   * `follow`. On Local a log goes on through restarts, and this is `NOT_AVAILABLE`.
   * @default false
   */
  previous?: boolean
  /** Ends the reading, with the signal's reason. */
  signal?: AbortSignal
}

/** The size of a terminal, in characters. */
export interface TerminalSize {
  columns: number
  rows: number
}

/** How a program is run beside a daemon. */
export interface ExecOptions {
  /**
   * What it reads: all of it, or a stream that is read as the program takes it. A stream stays open when the program
   * ends first.
   * @default nothing
   */
  stdin?: string | Uint8Array | Iterable<string | Uint8Array> | AsyncIterable<string | Uint8Array>
  /**
   * Whether it gets a terminal. Standard error then comes with standard output.
   * @default false
   */
  tty?: boolean
  /** The terminal's size, or its sizes as they change. */
  size?: TerminalSize | AsyncIterable<TerminalSize>
  /**
   * Takes standard output, in pieces as they come; the next one comes once the promise that it gives is settled. What it
   * throws ends the connection, with that error.
   * @default it is gathered, and the result has it as text
   */
  onStdout?: (chunk: Uint8Array) => unknown
  /** Takes standard error, in the same way. */
  onStderr?: (chunk: Uint8Array) => unknown
  /** Ends the connection, with the signal's reason. The program is not told. */
  signal?: AbortSignal
  /**
   * Milliseconds within which the program must have been started; it may then take as long as it likes.
   * @default 600000
   */
  timeoutMs?: number
}

/** How a program ended (exactly one of `code` and `signal`), and what it wrote. */
export interface ExecResult extends ExitStatus {
  /** Standard output as text; empty where `onStdout` took it. Bytes that are not UTF-8 are replaced by U+FFFD. */
  stdout: string
  /** Standard error, likewise. */
  stderr: string
}

/** What {@link deploy} has made, or {@link connect} has found. */
export declare class Deployment {
  private constructor()
  readonly name: string
  /**
   * How everything is, at this moment.
   * @throws {AlienError} `DEPLOYMENT_NOT_FOUND` when it has been destroyed
   */
  status(options?: StatusOptions): Promise<DeploymentStatus>
  /**
   * A daemon's output. The log is kept over restarts and updates, and rotated by size: 5 files of 10 MiB.
   *
   * @example
   * for await (const { line } of deployment.logs("connector", { follow: true, signal })) console.log(line)
   * @throws {AlienError} while it is read: `DEPLOYMENT_NOT_FOUND`, `RESOURCE_NOT_FOUND`
   */
  logs(id: string, options?: LogOptions): AsyncIterable<LogLine>
  /**
   * Stops a daemon (its stop signal, then its grace period) and starts it again; resolves once it is up.
   * @throws {AlienError} `RESOURCE_NOT_FOUND`, `DAEMON_NOT_UP`
   */
  restart(id: string, options?: CallOptions): Promise<void>
  /**
   * Brings back the version of a daemon that ran before this one; resolves once it is up. The next deploy of the stack
   * brings the stack's version again.
   * @throws {AlienError} `RESOURCE_NOT_FOUND`; `NO_PREVIOUS_VERSION` where none ran before, or none that could be kept
   */
  rollback(id: string, options?: CallOptions): Promise<void>
  /**
   * Calls a command of a daemon that was deployed with `.commandsEnabled(true)`; resolves with its handler's result.
   *
   * @example
   * const { rows } = await deployment.invoke("connector", "sync", { since: "2026-05-01" })
   * @param params bytes, of any size, as they are; anything else as JSON
   * @throws {CommandError} of `@alienplatform/core/commands`: `DEPLOYMENT_COMMAND_ERROR` when the handler failed,
   * `COMMAND_TIMEOUT`, …
   * On Kubernetes it goes through the API server, for which the kubeconfig's user needs `pods/portforward`.
   * @throws {AlienError} `MANAGER_NOT_FOUND` when no daemon of the deployment takes commands; `MANAGER_UNREACHABLE`
   */
  invoke(id: string, command: string, params: unknown, options: import("./js/commands").InvokeOptions & { as: "stream" }): Promise<import("./js/commands").ByteStream>
  invoke(id: string, command: string, params: unknown, options: import("./js/commands").InvokeOptions & { as: "bytes" }): Promise<Buffer>
  invoke<Result = unknown>(id: string, command: string, params?: unknown, options?: import("./js/commands").InvokeOptions): Promise<Result>
  /**
   * Runs a program beside a daemon, in its container: with its root, user, environment and limits. A program that fails
   * is no error: see the result's `code`. It ends with the daemon's own program at the latest.
   *
   * @example
   * const { code, stdout } = await deployment.exec("db", ["psql", "-At"], { stdin: "select 1" })
   * @param command program and arguments; there is no shell
   * @throws {AlienError} `RESOURCE_NOT_FOUND`; `DAEMON_NOT_RUNNING`; `EXEC_INTERRUPTED` when the connection is lost; on
   * Local `ENTRYPOINT_MISSING` and the like where the image lacks the program
   */
  exec(id: string, command: string[], options?: ExecOptions): Promise<ExecResult>
  /**
   * The status as it is now, and again whenever it has changed; ends once the deployment is gone.
   *
   * @example
   * for await (const { resources } of deployment.watch({ signal })) console.log(resources.map(({ state }) => state))
   * @throws {AlienError} while it is read: `DEPLOYMENT_NOT_FOUND`
   */
  watch(options?: { signal?: AbortSignal }): AsyncIterable<DeploymentStatus>
  /**
   * Stops and removes every resource; what is gone already is no error. What linked resources and image volumes store
   * stays for the next deploy.
   */
  destroy(options?: DestroyOptions): Promise<void>
  /** Everything that this object's calls have told so far, and what they tell until none is under way. */
  events(): AsyncIterable<DeployEvent>
}

/** Options of {@link Deployment.destroy}. */
export interface DestroyOptions extends CallOptions {
  /**
   * Whether what was stored goes too.
   * @default false
   */
  data?: boolean
}

/**
 * What {@link deploy} would do, and why, field by field. Starts, stops and fetches nothing; registries are asked what
 * tags mean.
 *
 * @throws {ValidationError} when the stack or the options are not valid
 * @throws {AlienError} as `deploy` does before it changes anything
 */
export declare function plan(stack: StackConfig, options?: DeployOptions): Promise<Plan>

/**
 * Makes the deployment as the stack says, and resolves once everything is up: fetches images, starts what is new,
 * updates what differs, removes what the stack no longer has. Doing it twice changes nothing the second time. A second
 * call for the same deployment, from any process, waits for the first.
 *
 * @throws {ValidationError} when the stack or the options are not valid
 * @throws {AlienError} `PREFLIGHT_FAILED` (its report in `context.report`) before anything is touched;
 * `IMAGE_NOT_FOUND`, `IMAGE_UNAUTHORIZED`, `REGISTRY_UNREACHABLE` and others when an image cannot be had;
 * `DAEMON_NOT_UP` when a daemon ends by itself of which no version has been up yet (it is left crash-looping);
 * `UPDATE_ROLLED_BACK` when a new version does (the last one that was up runs again), both with `context.lastLines`;
 * `DEPLOY_FAILED` for several of these;
 * `MANAGER_NOT_INSTALLED`, `MANAGER_UNREACHABLE`, `MANAGER_REFUSED` before anything is changed, where daemons take commands;
 * `STATE_DIR_UNUSABLE`, `STORE_FULL`, `STORE_OVER_LIMIT`; `DOCKER_UNREACHABLE`; `TIMEOUT`
 */
export declare function deploy(stack: StackConfig, options?: DeployOptions): Promise<Deployment>

/**
 * An existing deployment, by its name.
 *
 * @throws {AlienError} `DEPLOYMENT_NOT_FOUND`, naming those that there are
 */
export declare function connect(options: ConnectOptions): Promise<Deployment>

/** The names of all deployments: in the state directory of Local, in the namespace of Kubernetes. */
export declare function deployments(options?: CallOptions & PlatformOptions): Promise<string[]>

/** An image that is kept on this machine. */
export interface ImageInfo {
  /** The names it was fetched by, and those that daemons call it by. */
  references: string[]
  /** `sha256:…`, as a plan shows it. */
  digest: string
  /** Bytes on disk of its layers, of which other images may have some too. */
  bytes: number
  /** The daemons that run it, or may go back to it. */
  usedBy: { deployment: string; daemon: string }[]
}

/** What {@link images} gives. */
export interface ImageList {
  /** Sorted by reference. */
  images: ImageInfo[]
  /** Bytes on disk of everything, each layer counted once. */
  totalBytes: number
}

/** What {@link prune} has removed, or would. */
export interface PruneReport {
  dryRun: boolean
  /** Images that are gone; nobody used them. */
  images: ImageInfo[]
  layers: number
  /** Writable tops of former versions of daemons. */
  tops: number
  /** Programs of other versions of this package. Left while a deploy is under way. */
  helpers: number
  /** Bytes on disk. */
  freedBytes: number
}

/**
 * The images that are kept in the state directory, for all its deployments.
 *
 * @throws {AlienError} `NOT_AVAILABLE` on another platform than Local; `STATE_DIR_UNUSABLE`
 */
export declare function images(options?: CallOptions & PlatformOptions): Promise<ImageList>

/**
 * Removes images that no daemon of any deployment here runs or may go back to, and what else is left of former versions.
 * Safe beside deploys, in this process or in others: what they have fetched stays.
 *
 * @throws {AlienError} `NOT_AVAILABLE` on another platform than Local; `STATE_DIR_UNUSABLE` where it cannot be told what
 * is in use, before anything is removed
 */
export declare function prune(
  options?: CallOptions &
    PlatformOptions & {
      /**
       * Whether it is only said what would be removed.
       * @default false
       */
      dryRun?: boolean
    },
): Promise<PruneReport>

/** Options of {@link render}. */
export interface RenderOptions {
  /** Only Kubernetes has manifests. */
  platform: "kubernetes"
  /** The deployment's name; the stack's id unless given. */
  name?: string
  kubernetes?: KubernetesOptions
  /** As `deploy` takes them, but only the names count: each is referred to, and no value is looked at. */
  secrets?: Record<string, Record<string, string>>
  /** As `deploy` takes them. */
  bindings?: Record<string, ExternalBinding>
  /** As `deploy` takes it: its address goes into the manifests, no token does. */
  manager?: ManagerOptions
}

/**
 * A stack's manifests, as YAML that `kubectl apply -f -` takes. The same stack gives the same bytes. Touches no cluster.
 *
 * @throws {ValidationError} when the stack or the options are not valid
 * @throws {AlienError} `PREFLIGHT_FAILED`
 */
export declare function render(stack: StackConfig, options: RenderOptions): Promise<string>

/** An error as JSON. */
export interface AlienErrorOptions<Context = any> {
  /** Upper snake case, at most 128 characters; what programs compare. */
  code: string
  /** At most 16384 characters. */
  message: string
  /** The facts of the message, for programs. */
  context?: Context
  /** What to do about it. */
  hint?: string
  /**
   * What a server should answer with when it passes this error on.
   * @default 500
   */
  httpStatusCode?: number
  /**
   * Whether the message is for the operator of the service only.
   * @default false
   */
  internal?: boolean
  /**
   * Whether the same call may succeed later without a change.
   * @default false
   */
  retryable?: boolean
  /** What caused it. */
  source?: AlienErrorOptions
}

/** An error of a definition, ready for `new AlienError(…)`. */
export interface DefinedError<Context = any> extends AlienErrorOptions<Context> {
  toOptions(): AlienErrorOptions<Context>
}

/** A kind of error. */
export interface ErrorDefinition<Input = any, Context = Input> {
  metadata: { code: string; retryable: boolean; internal: boolean; httpStatusCode: number }
  contextSchema?: { parse(input: unknown): Context }
  /** @throws what the schema throws, when the context does not fit it */
  create(context: Input): DefinedError<Context>
}

/** Every error of this package. Its text is the whole chain, each source on a line `├─▶ CODE: message`. */
export declare class AlienError<Context = any> extends Error {
  constructor(options: AlienErrorOptions<Context> | DefinedError<Context>)
  readonly code: string
  readonly context?: Context
  readonly hint?: string
  readonly httpStatusCode: number
  readonly internal: boolean
  readonly retryable: boolean
  readonly source?: AlienError
  static fromDefinition<Context>(definition: DefinedError<Context>): AlienError<Context>
  /** An AlienError comes back itself; anything else becomes `GENERIC_ERROR`, with what it was in its context. */
  static from(value: unknown): Promise<AlienError>
  /** A new error whose source is this one. */
  withContext<Context>(definition: AlienErrorOptions<Context> | DefinedError<Context>): AlienError<Context>
  /** Whether it, or one of its sources, has the code. */
  hasErrorCode(code: string): boolean
  /** The first with that code, of it and its sources. */
  findErrorByCode(code: string): AlienError | undefined
  toOptions(): AlienErrorOptions<Context>
  /** What may leave the service: an internal error, at any depth, becomes `GENERIC_ERROR` without its sources. */
  toExternal(): AlienError
  toJSON(): AlienErrorOptions<Context>
}

/** A document or an option is not valid; every problem is in `issues`, and in the message. */
export declare class ValidationError extends AlienError {
  constructor(options: Partial<AlienErrorOptions> & { message: string; issues?: Issue[] })
  readonly issues: Issue[]
}

/**
 * Defines a kind of error.
 *
 * @example
 * const QuotaExceeded = defineError({
 *   code: "QUOTA_EXCEEDED",
 *   context: z.object({ limit: z.number() }),
 *   message: ({ limit }) => `More than ${limit}`,
 *   httpStatusCode: 429,
 * })
 * throw new AlienError(QuotaExceeded.create({ limit: 3 }))
 */
export declare function defineError<Context = any>(definition: {
  code: string
  /** Any schema with `parse`; what it returns is the context. Without one, any context is taken. */
  context?: { parse(input: unknown): Context }
  message: string | ((context: Context) => string)
  hint?: string | ((context: Context) => string)
  /** @default false */
  retryable?: boolean
  /** @default false */
  internal?: boolean
  /** @default 500 */
  httpStatusCode?: number
}): ErrorDefinition<Context>

export declare const ResourceNotFoundError: ErrorDefinition<{ resourceId: string; availableResources: string[] }>
export declare const UnexpectedResourceTypeError: ErrorDefinition<{
  resourceId: string
  expectedType: string
  actualType: string
}>
export declare const ResourceOutputsParseError: ErrorDefinition<{ resourceId: string; reason: string }>

/** What `getResourceOutputs` reads: resources by id, or in a list. */
export interface OutputsState {
  resources: Record<string, { type: string; outputs?: unknown }> | { id: string; type: string; outputs?: unknown }[]
}

/**
 * What a deployed resource reports about itself.
 *
 * @param resource the resource, a reference to it, or its id; with a type, that is checked too
 * @param schema any schema with `parse`; without one, a daemon's outputs are checked to be {@link DaemonOutputs}
 * @throws {AlienError} `RESOURCE_NOT_FOUND`, `UNEXPECTED_RESOURCE_TYPE` or `RESOURCE_OUTPUTS_PARSE_ERROR`
 */
export declare function getResourceOutputs(state: OutputsState, resource: Resource<DaemonConfig>): DaemonOutputs
export declare function getResourceOutputs<Outputs = unknown>(
  state: OutputsState,
  resource: Resource<any> | { type: ResourceType; id: string } | string,
  schema?: { parse(input: unknown): Outputs },
): Outputs
