/**
 * Attributes running code to the device or mediator that it belongs to. The server enters models
 * and mediators from a user's files through this module. When a promise or a timer of a model
 * fails, the device of the model has failed, and the server goes on.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { DeviceHost, Model, ModelMigration } from '../abi/device-host.ts';
import type { Accepted, Mediator } from '../abi/mediator.ts';
import { type Failed, isThenable, textOf } from '../base/foreign.ts';
import type { EventStream } from '../events/stream.ts';
import { FunctionHost } from '../hardware/function-host.ts';
import type { DeviceModel, SriovDeclaration } from '../pci/declaration.ts';

const running = new AsyncLocalStorage<Failed>();

/**
 * From an entered model to the model that the user's file made. The model of a VF gets the latter
 * as the model of its PF.
 */
const originals = new WeakMap<Model, Model>();

/**
 * All methods of a model. The compiler checks the list: the server would never call a method that
 * is missing here.
 */
const modelMethods = Object.keys({
  read: true,
  write: true,
  read64: true,
  write64: true,
  reset: true,
  configRead: true,
  configWrite: true,
  configWritten: true,
  power: true,
  dispose: true,
} satisfies Record<Exclude<keyof Model, 'migration'>, true>);
const migrationMethods = ['stop', 'start', 'save', 'load'] as const;
const bulkMethods = ['present', 'read', 'write', 'startTracking', 'stopTracking', 'takeDirty'] as const;
const peerMethods = ['enter', 'leave'] as const;

type Method = (...args: readonly unknown[]) => unknown;

function enter(target: object, call: Method, failed: Failed): Method {
  return (...args) => running.run(failed, () => call.apply(target, args as unknown[]));
}

/** The methods of `target` that `names` has. */
function enterMethods<T extends object>(target: T, names: readonly string[], failed: Failed): Partial<T> {
  const entered: Record<string, Method> = {};
  for (const name of names) {
    const method = (target as Record<string, unknown>)[name];
    if (typeof method === 'function') entered[name] = enter(target, method as Method, failed);
  }
  return entered as Partial<T>;
}

function enterMigration(migration: ModelMigration, failed: Failed): ModelMigration {
  return Object.defineProperties(enterMethods(migration, migrationMethods, failed), {
    version: { get: () => migration.version },
    stateSize: { get: () => migration.stateSize },
    bulk: { get: () => enterBulk(migration.bulk, failed) },
    p2p: { get: () => migration.p2p && enterMethods(migration.p2p, peerMethods, failed) },
  }) as ModelMigration;
}

function enterBulk(bulk: ModelMigration['bulk'], failed: Failed): ModelMigration['bulk'] {
  if (bulk === undefined) return undefined;
  const { size, blockSize } = bulk;
  return { size, blockSize, ...enterMethods(bulk, bulkMethods, failed) } as ModelMigration['bulk'];
}

function enterModel(create: () => Model, host: DeviceHost): Model {
  const failed: Failed =
    host instanceof FunctionHost
      ? (what, error) => host.modelFailed(what, error)
      : (what, error) => host.log.log('error', `${what}: ${textOf(error)}`);
  const model = running.run(failed, create);
  // The host refuses a value that is no model, and says why.
  if (typeof model !== 'object' || model === null || isThenable(model)) return model;
  const entered = Object.defineProperty(enterMethods(model, modelMethods, failed), 'migration', {
    get: () => model.migration && enterMigration(model.migration, failed),
  }) as Model;
  originals.set(entered, model);
  return entered;
}

/** `model`, wrapped so that its code runs as code of its device. */
export function attributeModel(model: DeviceModel): DeviceModel {
  const { declaration, sriov, owns } = model;
  return {
    declaration,
    create: (host) => enterModel(() => model.create(host), host),
    ...(sriov === undefined ? {} : { sriov: attributeVfs(sriov) }),
    ...(owns === undefined ? {} : { owns }),
  };
}

function attributeVfs(sriov: SriovDeclaration): SriovDeclaration {
  const { vf } = sriov;
  return {
    ...sriov,
    vf: {
      declaration: vf.declaration,
      create: (host, index, physical) =>
        enterModel(() => vf.create(host, index, physical === null ? null : (originals.get(physical) ?? physical)), host),
    },
  };
}

/** The handle that the engine keeps of an entered mediator. */
interface Held {
  readonly handle: unknown;
  readonly failed: Failed;
}

/** `mediator`, wrapped so that its code runs as code of the mediator. */
export function attributeMediator(mediator: Mediator): Mediator<Held> {
  const { name } = mediator;
  return {
    name,
    open(device) {
      const failed: Failed = (what, error) =>
        device.log.log('error', `${device.name}: mediator '${name}' failed in ${what}: ${textOf(error)}`);
      const accepted = running.run(failed, () => mediator.open(device));
      // The engine refuses a value that is no acceptance, and says why.
      if (typeof accepted !== 'object' || accepted === null || isThenable(accepted)) return accepted as null;
      return { ...enterAccepted(accepted, failed), handle: { handle: accepted.handle, failed } };
    },
    release: ({ handle, failed }) => running.run(failed, () => mediator.release(handle)),
  };
}

function enterAccepted(accepted: Accepted<unknown>, failed: Failed): Omit<Accepted<Held>, 'handle'> {
  const { handle, regions, addedRegions, irqs, feature, migration, notesWrites } = accepted;
  return {
    ...(notesWrites === undefined ? {} : { notesWrites }),
    ...(regions === undefined ? {} : { regions: enterTables(regions, handle, failed) }),
    ...(addedRegions === undefined
      ? {}
      : { addedRegions: Array.isArray(addedRegions) ? addedRegions.map((region) => enterHooks(region, handle, failed)) : addedRegions }),
    ...(irqs === undefined ? {} : { irqs: enterTables(irqs, handle, failed) }),
    ...(feature === undefined ? {} : (enterHooks({ feature }, handle, failed) as object)),
    ...(migration === undefined ? {} : { migration: enterMigration(migration, failed) }),
  } as Omit<Accepted<Held>, 'handle'>;
}

function enterTables(tables: object, handle: unknown, failed: Failed): object {
  return Object.fromEntries(Object.entries(tables).map(([index, hooks]) => [index, enterHooks(hooks, handle, failed)]));
}

/**
 * Wraps every function of `hooks`. Other values stay as they are: the engine refuses them when it
 * reads them.
 */
function enterHooks(hooks: unknown, handle: unknown, failed: Failed): unknown {
  if (typeof hooks !== 'object' || hooks === null) return hooks;
  const entered = (hook: unknown): unknown =>
    typeof hook === 'function'
      ? (_: Held, ...args: readonly unknown[]) => running.run(failed, () => hook.call(hooks, handle, ...args))
      : hook;
  return Object.fromEntries(Object.entries(hooks).map(([name, hook]) => [name, entered(hook)]));
}

/**
 * From this call on, a promise that rejects unhandled, or an error that no code catches, does not
 * end the process. The device or mediator that the code belongs to has failed. The log reports
 * failures of unknown code. The commands that serve devices call this; a user's program decides for
 * itself.
 *
 * @param stream of the server: it gets the failures of unknown code as notes
 */
export function surviveForeignCode(stream: EventStream): Disposable {
  const source = stream.source('code');
  const survive = (what: string) => (error: unknown) => {
    const failed = running.getStore();
    if (failed !== undefined) failed(what, error);
    else source.note('error', what, `${what}, of code that belongs to no device; serving goes on: ${textOf(error)}`);
  };
  const rejected = survive('a promise that nothing awaits');
  const thrown = survive('an error that nothing catches');
  process.on('unhandledRejection', rejected);
  process.on('uncaughtException', thrown);
  return {
    [Symbol.dispose]: () => {
      process.off('unhandledRejection', rejected);
      process.off('uncaughtException', thrown);
      source[Symbol.dispose]();
    },
  };
}
