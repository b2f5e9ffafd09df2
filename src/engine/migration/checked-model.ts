/**
 * A model's migration as the engine calls it: foreign code, which may be async where it must not
 * be, or answer nonsense. An async method has not done its work when it returns, so it has failed;
 * `failed` also gets the error that it rejects with later.
 */
import type { ModelBulk, ModelMigration, ModelPeerToPeer } from '../../abi/device-host.ts';
import { type Failed, isThenable, settle } from '../../base/foreign.ts';

/** @param failed reports the rejection of a method that has returned */
export function checkedModel(model: ModelMigration, failed: Failed): ModelMigration {
  const nothing = (what: string, result: unknown): void => {
    if (result !== undefined) refuse(what, result, failed);
  };
  let bulk: ModelBulk | undefined;
  let p2p: ModelPeerToPeer | undefined;
  // The engine reads the properties of the model when it needs them: they may change, and reading
  // them may throw.
  return {
    get version() {
      return model.version;
    },
    get stateSize() {
      return model.stateSize ?? 4096;
    },
    get bulk() {
      if (model.bulk === undefined) return undefined;
      bulk ??= checkedBulk(model.bulk, nothing);
      return bulk;
    },
    get p2p() {
      if (model.p2p === undefined) return undefined;
      p2p ??= checkedPeerToPeer(model.p2p, nothing);
      return p2p;
    },
    stop: () => nothing('migration.stop', model.stop()),
    start: () => nothing('migration.start', model.start()),
    save: () => {
      const state = model.save();
      if (state instanceof Uint8Array) return state;
      refuse('migration.save', state, failed);
      throw new Error('migration.save gave back no Uint8Array');
    },
    load: (state, version) => nothing('migration.load', model.load(state, version)),
  };
}

function checkedBulk(bulk: ModelBulk, nothing: (what: string, result: unknown) => void): ModelBulk {
  return {
    size: bulk.size,
    blockSize: bulk.blockSize,
    present: (block) => {
      const present: unknown = bulk.present(block);
      if (typeof present === 'boolean') return present;
      nothing('migration.bulk.present', present);
      throw new Error('migration.bulk.present gave back neither true nor false');
    },
    read: (block, into) => nothing('migration.bulk.read', bulk.read(block, into)),
    write: (block, from) => nothing('migration.bulk.write', bulk.write(block, from)),
    startTracking: () => nothing('migration.bulk.startTracking', bulk.startTracking()),
    stopTracking: () => nothing('migration.bulk.stopTracking', bulk.stopTracking()),
    takeDirty: (from) => {
      const block: unknown = bulk.takeDirty(from);
      if (typeof block === 'number' && Number.isInteger(block)) return block;
      nothing('migration.bulk.takeDirty', block);
      throw new Error('migration.bulk.takeDirty gave back no number of a block');
    },
  };
}

function checkedPeerToPeer(p2p: ModelPeerToPeer, nothing: (what: string, result: unknown) => void): ModelPeerToPeer {
  return {
    enter: () => nothing('migration.p2p.enter', p2p.enter()),
    leave: () => nothing('migration.p2p.leave', p2p.leave()),
  };
}

function refuse(what: string, result: unknown, failed: Failed): void {
  if (!isThenable(result)) return;
  settle(what, result, failed);
  throw new Error(`${what} is async: its work must be done when it returns`);
}
