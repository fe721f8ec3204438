// Commands: handlers in a daemon, and typed calls of them from anywhere.

import type { Readable } from "node:stream"

/** What a schema library gives (https://standardschema.dev): zod, valibot, arktype and others. */
export interface StandardSchema<Input = any, Output = any> {
  readonly "~standard": {
    readonly version: 1
    readonly vendor: string
    readonly validate: (value: unknown) => any
    readonly types?: { readonly input: Input; readonly output: Output } | undefined
  }
}
type InputOf<Schema extends StandardSchema> = NonNullable<Schema["~standard"]["types"]>["input"]
type OutputOf<Schema extends StandardSchema> = NonNullable<Schema["~standard"]["types"]>["output"]

/** A value as it is after its way through JSON. */
export type Json<T> = unknown extends T
  ? T
  : T extends { toJSON(): infer U }
    ? Json<U>
    : T extends undefined | void | Function | symbol
      ? null
      : T extends string | number | boolean | null
        ? T
        : T extends bigint
          ? never
          : T extends readonly unknown[]
            ? { [K in keyof T]: Json<T[K]> }
            : T extends object
              ? {
                  [K in keyof T as T[K] extends Function | symbol | undefined ? never : K]:
                    | Json<Exclude<T[K], undefined>>
                    | (undefined extends T[K] ? undefined : never)
                }
              : never

/**
 * What is sent as the bytes that it has, where all other values are sent as JSON. What does not fit a message (150,000 bytes)
 * is streamed, and never whole in memory; `Uint8Array`, `ArrayBuffer` and `Blob` are sent again where a connection is cut, the
 * others only before their first byte was read. A source may pause for 20 s at most.
 */
export type Bytes = Uint8Array | ArrayBuffer | Blob | AsyncIterable<Uint8Array>

/** Bytes as they come, checked against their SHA-256 at their end: where they are not what was sent, it ends with an error. */
export interface ByteStream extends Readable {
  /** How many there are; `undefined` where some other manager does not know. */
  readonly size: number | undefined
}

/** What every handler is told besides its parameters. */
interface AnyContext {
  /**
   * Aborts when nobody waits for the result any more. Its reason is a {@link CommandError} with the code
   * `HANDLER_TIMEOUT` (the deadline, or a lease that could not be renewed), `COMMAND_CANCELLED`, `LEASE_LOST` (somebody
   * else may have the command now; also one that is cancelled in its first half second) or `RECEIVER_STOPPED` (the process ends; the command is handed out again).
   */
  readonly signal: AbortSignal
  readonly deadline: Date | undefined
  readonly commandId: string
  /** 1 for the first delivery. More says that an earlier one may have done something already. */
  readonly attempt: number
  readonly target: { readonly resourceId: string; readonly resourceType: string }
  /** The caller's W3C trace context, where it sent one. */
  readonly traceparent: string | undefined
  readonly tracestate: string | undefined
  /**
   * Tells the caller how far it is: any JSON of at most 4 KiB. The last value is what counts; some of those before it may
   * never be seen.
   */
  progress(value: unknown): void
}

/** What a handler is told besides its parameters. */
export interface CommandContext<Params = unknown> extends AnyContext {
  /** The parameters, as the schema gives them; the handler's first argument. */
  readonly input: Params
  /** The parameters as they were sent, before any schema. */
  readonly params: unknown
}

/** What a handler of {@link command.stream} is told besides its parameters. */
export interface StreamContext extends AnyContext {
  /** The parameters' bytes; the handler's first argument. */
  readonly input: ByteStream
  /** How many there are; `undefined` where some other manager does not know. */
  readonly size: number | undefined
}

/** Does what a command says. What it returns is the result: {@link Bytes} as they are, all else as JSON; `undefined` is null. */
export type CommandHandler<Params = any, Result = unknown> = (params: Params, context: CommandContext<Params>) => Result | Promise<Result>

declare const types: unique symbol

/** A command that has a handler. Carries its types to {@link CommandsClient.target}. */
export interface Command<Name extends string = string, Params = any, Result = any> {
  readonly name: Name
  readonly [types]?: { params: Params; result: Result }
}

/**
 * Registers a handler for {@link runReceiver}. A name can have one handler.
 *
 * @param schema any Standard Schema; what does not fit it never reaches the handler, and the caller sees the issues
 *
 * @example
 * export const sync = command("sync", z.object({ since: z.string() }), async ({ since }, { signal }) => ({ rows: await copy(since, signal) }))
 */
export declare function command<const Name extends string, Schema extends StandardSchema, Result>(
  name: Name,
  schema: Schema,
  handler: (params: OutputOf<Schema>, context: CommandContext<OutputOf<Schema>>) => Result | Promise<Result>,
): Command<Name, InputOf<Schema>, Result>
export declare function command<const Name extends string, Params, Result>(
  name: Name,
  handler: (params: Params, context: CommandContext<Params>) => Result | Promise<Result>,
): Command<Name, Params, Result>

export declare namespace command {
  /**
   * Registers a handler that gets its parameters as a stream of their bytes, whatever they are: of any size, and not before
   * they are read. What it has not read when it ends is dropped.
   *
   * @example
   * export const restore = command.stream("restore", async (backup, { signal }) => {
   *   await pipeline(backup, createWriteStream("/data/backup"), { signal })
   * })
   */
  function stream<const Name extends string, Result>(
    name: Name,
    handler: (body: ByteStream, context: StreamContext) => Result | Promise<Result>,
  ): Command<Name, Bytes, Result>
}

/** How a receiver works. Everything has a default that comes from the environment of a daemon with commands. */
export interface ReceiverOptions {
  /**
   * How many handlers run at once.
   * @default `ALIEN_COMMANDS_MAX_LEASES`, else 1
   */
  concurrency?: number
  /**
   * For how long a command is this receiver's without being renewed. While its handler runs, it is renewed.
   * @default `ALIEN_COMMANDS_LEASE_SECONDS`, else 60
   */
  leaseSeconds?: number
  /**
   * How long the manager may hold a question for commands while there are none, at most 60.
   * @default 20
   */
  waitSeconds?: number
  /**
   * Between questions to a manager that holds none, and the longest between tries to reach one that is away.
   * @default `ALIEN_COMMANDS_POLL_INTERVAL_MS`, else 5000
   */
  pollIntervalMs?: number
  /**
   * What that interval grows to while there are no commands.
   * @default `ALIEN_COMMANDS_POLL_MAX_INTERVAL_MS`, else 30000
   */
  pollMaxIntervalMs?: number
  /**
   * By what part of it the interval is longer or shorter, by chance.
   * @default `ALIEN_COMMANDS_POLL_JITTER`, else 0.1
   */
  pollJitter?: number
  /**
   * How long handlers may take to finish once the receiver stops; then their signals abort.
   * @default `ALIEN_COMMANDS_DRAIN_TIMEOUT_MS`, else 30000
   */
  drainTimeoutMs?: number
  /**
   * Whether SIGTERM and SIGINT stop the receiver; a second one ends the draining.
   * @default true
   */
  handleSignals?: boolean
  /** The manager. @default `ALIEN_COMMANDS_URL` */
  url?: string
  /** @default `ALIEN_COMMANDS_TOKEN` */
  token?: string
  /** Goes before the token, and is read again when the manager refuses it. @default `ALIEN_COMMANDS_TOKEN_FILE` */
  tokenFile?: string
  /** PEM certificates that a manager's own is to be signed with, in place of Node's. @default `ALIEN_COMMANDS_CA_FILE` */
  caFile?: string
  /** @default `ALIEN_DEPLOYMENT_ID` */
  deploymentId?: string
  /** The daemon whose commands are taken. @default `ALIEN_COMMANDS_TARGET_RESOURCE_ID` */
  resourceId?: string
  /** @default `ALIEN_COMMANDS_TARGET_RESOURCE_TYPE`, else `daemon` */
  resourceType?: "daemon" | "container"
  /** Takes lines for whoever runs the daemon; there are no parameters and no tokens in them. @default console.error */
  log?: (line: string) => void
}

/** Takes commands of one daemon from its manager. `Commands` are those that it has handlers for. */
export declare class CommandReceiver<Commands extends Command = never> {
  constructor(options?: ReceiverOptions)
  readonly [types]?: Commands
  /** Registers a handler. A name can have one. */
  command<const Name extends string, Schema extends StandardSchema, Result>(
    name: Name,
    schema: Schema,
    handler: (params: OutputOf<Schema>, context: CommandContext<OutputOf<Schema>>) => Result | Promise<Result>,
  ): CommandReceiver<Commands | Command<Name, InputOf<Schema>, Result>>
  command<const Name extends string, Params, Result>(
    name: Name,
    handler: (params: Params, context: CommandContext<Params>) => Result | Promise<Result>,
  ): CommandReceiver<Commands | Command<Name, Params, Result>>
  /** Registers a handler that gets its parameters as a stream of their bytes; see {@link command.stream}. */
  stream<const Name extends string, Result>(
    name: Name,
    handler: (body: ByteStream, context: StreamContext) => Result | Promise<Result>,
  ): CommandReceiver<Commands | Command<Name, Bytes, Result>>
  /**
   * Takes commands until {@link stop} or a signal, and resolves when the last handler has ended. Managers that are away are
   * waited for.
   *
   * @throws {CommandError} `RECEIVER_NOT_CONFIGURED`, which lists all that is missing
   */
  run(): Promise<void>
  /** Takes no more commands and lets handlers finish, within the drain time; resolves when they have. */
  stop(): Promise<void>
}

/** A receiver with handlers of its own, apart from those of {@link command}. */
export declare function createCommandReceiver(options?: ReceiverOptions): CommandReceiver
/** Runs the handlers of {@link command}, until SIGTERM or SIGINT. */
export declare function runReceiver(options?: ReceiverOptions): Promise<void>

/** Where a command is in its life. */
export type CommandState = "PENDING_UPLOAD" | "PENDING" | "DISPATCHED" | "SUCCEEDED" | "FAILED" | "EXPIRED" | "CANCELLED"

/** What is known of a command. */
export interface CommandView {
  commandId: string
  state: CommandState
  /** Which delivery it is at. */
  attempt: number
  command: string
  target: { resourceId: string; resourceType: string }
  /** RFC 3339, as all times here. */
  createdAt: string
  deadline?: string
  finishedAt?: string
  /** What the handler told last of how far it is. */
  progress?: unknown
  /** Once it has succeeded; as JSON, unless `as` said otherwise. Lists have none. */
  result?: unknown
  /** Once it has failed. */
  error?: { code: string; message: string; details?: unknown }
}

/** How a command is sent. */
export interface SubmitOptions {
  /** After it the command has expired, if there is no result: a Date or an RFC 3339 time. */
  deadline?: Date | string
  /**
   * The same key makes the same command, for 24 hours: a result that is there already is given again.
   * @default a random one
   */
  idempotencyKey?: string
  /** W3C trace context, for the handler. */
  traceparent?: string
  tracestate?: string
  /** Ends the sending. */
  signal?: AbortSignal
  /** Milliseconds after which it is given up. @default the client's */
  timeoutMs?: number
  /** Another name of `timeoutMs`. */
  timeout?: number
}

/** How a command is called. */
export interface InvokeOptions extends SubmitOptions {
  /** Takes the command back when it aborts; the promise is rejected with its reason. */
  signal?: AbortSignal
  /**
   * Milliseconds after which no more is waited: `COMMAND_TIMEOUT`. The command goes on; a `deadline` is what ends it. Bringing
   * large parameters, and fetching a large result, take none of them.
   * @default the client's
   */
  timeoutMs?: number
  /**
   * Milliseconds between questions to a manager that cannot hold its answer; grows to 5000.
   * @default 500
   */
  pollInterval?: number
  /**
   * In what the result is wanted: as the value that its JSON is, as its bytes, or as a stream of them.
   * @default "json"
   */
  as?: ResultForm
}

/** What a result is had as. */
export type ResultForm = "json" | "bytes" | "stream"

/** Options of calls that are answered at once. */
export interface AskOptions {
  signal?: AbortSignal
  /** Milliseconds. @default 10000 */
  timeoutMs?: number
}

/** Options of questions that may be answered with a result. */
export interface ResultOptions extends AskOptions {
  /** What the result is had as, where there is one. @default "json" */
  as?: ResultForm
}

export interface ListOptions extends AskOptions {
  state?: CommandState
  /** The id of a daemon. */
  target?: string
  /** How many at most. */
  limit?: number
  /** From the page before. */
  cursor?: string
}

export interface CommandPage {
  /** The newest first. */
  commands: CommandView[]
  /** For the next page; absent on the last. */
  cursor?: string
}

/** The commands of a receiver, or of a record or module whose values are what {@link command} returned. */
export type CommandsOf<Source> = Source extends CommandReceiver<infer Commands> ? Commands : Extract<Source[keyof Source], Command>
type ParamsOf<C> = C extends Command<string, infer Params, any> ? Params : never
/** Bytes are no JSON: such a result is had with `as`. */
type ResultOf<C> = C extends Command<string, any, infer Result> ? (unknown extends Awaited<Result> ? Awaited<Result> : Awaited<Result> extends Bytes ? unknown : Json<Awaited<Result>>) : never
/** What follows the name: parameters may be left out where the handler needs none. */
type Arguments<Params, Options> = undefined extends Params ? [params?: Params, options?: Options] : [params: Params, options?: Options]

/** A daemon, as its callers see it. */
export interface CommandTarget<Commands extends Command> {
  /** Calls a command and gives its result as a stream of its bytes: of any size, and never whole in memory. */
  invoke<Name extends Commands["name"]>(
    name: Name,
    params: ParamsOf<Extract<Commands, { name: Name }>>,
    options: InvokeOptions & { as: "stream" },
  ): Promise<ByteStream>
  /** Calls a command and gives the bytes of its result. */
  invoke<Name extends Commands["name"]>(
    name: Name,
    params: ParamsOf<Extract<Commands, { name: Name }>>,
    options: InvokeOptions & { as: "bytes" },
  ): Promise<Buffer>
  /** Calls a command and gives its result. */
  invoke<Name extends Commands["name"]>(
    name: Name,
    ...rest: Arguments<ParamsOf<Extract<Commands, { name: Name }>>, InvokeOptions>
  ): Promise<ResultOf<Extract<Commands, { name: Name }>>>
  /** Sends a command and does not wait for its result. */
  submit<Name extends Commands["name"]>(
    name: Name,
    ...rest: Arguments<ParamsOf<Extract<Commands, { name: Name }>>, SubmitOptions>
  ): Promise<{ commandId: string; state: CommandState }>
  /** This daemon's commands. */
  list(options?: Omit<ListOptions, "target">): Promise<CommandPage>
}

/** A daemon whose commands are not known to the compiler. */
export interface AnyCommandTarget {
  invoke(name: string, params: unknown, options: InvokeOptions & { as: "stream" }): Promise<ByteStream>
  invoke(name: string, params: unknown, options: InvokeOptions & { as: "bytes" }): Promise<Buffer>
  invoke<Result = unknown>(name: string, params?: unknown, options?: InvokeOptions): Promise<Result>
  submit(name: string, params?: unknown, options?: SubmitOptions): Promise<{ commandId: string; state: CommandState }>
  list(options?: Omit<ListOptions, "target">): Promise<CommandPage>
}

export interface CommandsClientOptions {
  managerUrl: string
  deploymentId: string
  /** One that may invoke in the deployment. */
  token: string
  /** A file with PEM certificates that the manager's own is to be signed with, in place of Node's; read at every connection. */
  caFile?: string
  /** The same, themselves. Goes before `caFile`. */
  ca?: string | Buffer
  /** What every call of the manager says besides, where something on the way to it asks for that. */
  headers?: Record<string, string>
  /** Milliseconds that calls wait for their results. @default 60000 */
  timeout?: number
}

/**
 * Calls commands of a deployment's daemons.
 *
 * Errors are {@link CommandError}s. Of a call: `DEPLOYMENT_COMMAND_ERROR` (the handler failed; `context` has `errorCode`,
 * `errorMessage` and `errorDetails`), `COMMAND_TIMEOUT` (`context.lastState`), `COMMAND_EXPIRED`, `COMMAND_CANCELLED`,
 * `COMMAND_CREATION_FAILED`, `PARAMS_TOO_LARGE`, `RESPONSE_DECODING_FAILED`; of any: `MANAGER_HTTP_ERROR`,
 * `MANAGER_UNREACHABLE`.
 *
 * @example
 * import type * as commands from "./connector/commands.js"
 * const { rows } = await client.target<typeof commands>("connector").invoke("sync", { since: "2026-05-01" })
 */
export declare class CommandsClient {
  constructor(options: CommandsClientOptions)
  /** One daemon; its commands are typed where their types are given. */
  target(id: string): AnyCommandTarget
  target<Source>(id: string): CommandTarget<CommandsOf<Source>>
  /** Calls a command of the only daemon that takes any. */
  invoke(name: string, params: unknown, options: InvokeOptions & { as: "stream" }): Promise<ByteStream>
  invoke(name: string, params: unknown, options: InvokeOptions & { as: "bytes" }): Promise<Buffer>
  invoke<Result = unknown>(name: string, params?: unknown, options?: InvokeOptions): Promise<Result>
  /** Sends a command to the only daemon that takes any. */
  submit(name: string, params?: unknown, options?: SubmitOptions): Promise<{ commandId: string; state: CommandState }>
  /** A command as it is now. */
  get(id: string, options?: ResultOptions): Promise<CommandView>
  /** Takes a command back, also one that runs: its handler's signal aborts. */
  cancel(id: string, options?: AskOptions): Promise<CommandView>
  list(options?: ListOptions): Promise<CommandPage>
  /** A command as it is, and after each change, until it has ended. `pollInterval`: 500 ms unless set. */
  watch(id: string, options?: { signal?: AbortSignal; pollInterval?: number; as?: ResultForm }): AsyncGenerator<CommandView, void>
  /** Closes the connections that are kept. They keep no process alive. */
  close(): void
}

/** A {@link CommandError} as plain data. */
export interface CommandErrorOptions {
  code: string
  message: string
  context?: any
  hint?: string
  retryable: boolean
  internal: boolean
  httpStatusCode: number
  source?: CommandErrorOptions
}

/** An error of this module, in the shape of the package's `AlienError`; `new AlienError(error)` makes one of it. */
export declare class CommandError extends Error {
  private constructor()
  readonly code: string
  readonly context?: any
  readonly hint?: string
  readonly retryable: boolean
  readonly internal: boolean
  readonly httpStatusCode: number
  readonly source?: CommandError
  toOptions(): CommandErrorOptions
  toJSON(): CommandErrorOptions
}
