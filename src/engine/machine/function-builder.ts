/**
 * Builds hardware from one entry of a machine's declaration: its kind, its PCI declaration, and the
 * model that gives it behaviour.
 */
import { CapId } from '../../abi/pci.ts';
import { checkIndex } from '../../base/check.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import { type Failed, ownedBy } from '../../base/foreign.ts';
import { PciExp, PciExpType } from '../../pci/capabilities/pci-express-registers.ts';
import { acs, af, msi, type PcieOptions, type PciePortType, pcie, pm } from '../../pci/capabilities.ts';
import type { Capability, DeviceModel, PciDeclaration, SriovDeclaration } from '../../pci/declaration.ts';
import { parseIds } from '../../pci/vendor-device.ts';
import { physicalFunctionOf } from '../../pci/virtual-functions.ts';
import { bridgeKinds, type FunctionKind, type FunctionSpec, type ModelReference } from './machine-spec.ts';

/** Models that a machine may name. A function makes one for the options of the entry. */
export type ModelRegistry = Readonly<Record<string, DeviceModel | ((options: Readonly<Record<string, unknown>>) => DeviceModel)>>;

export interface BuiltFunction {
  readonly kind: FunctionKind;
  readonly declaration: PciDeclaration;
  readonly model: DeviceModel | null;
  /** Null: it has no virtual functions. */
  readonly sriov: SriovDeclaration | null;
  /** The resources of a model that was made here by its name: they go with the function. */
  readonly owns: Disposable;
}

/** The function's place: the kind of the bridge above it, null on the root bus. */
type Place = FunctionKind | null;

/** In place of a bridge's kind: no place is refused. */
export const ANYWHERE = 'anywhere';

const kindOfPort: Readonly<Record<number, FunctionKind>> = {
  [PciExpType.ENDPOINT]: 'endpoint',
  [PciExpType.LEG_END]: 'endpoint',
  [PciExpType.ROOT_PORT]: 'root-port',
  [PciExpType.UPSTREAM]: 'upstream-port',
  [PciExpType.DOWNSTREAM]: 'downstream-port',
  [PciExpType.PCI_BRIDGE]: 'pcie-to-pci-bridge',
  [PciExpType.RC_END]: 'integrated-endpoint',
};

const portTypes: Partial<Record<FunctionKind, PciePortType>> = {
  endpoint: 'endpoint',
  'integrated-endpoint': 'rc-endpoint',
  'root-port': 'root-port',
  'upstream-port': 'upstream',
  'downstream-port': 'downstream',
  'pcie-to-pci-bridge': 'pcie-to-pci',
};

/**
 * The kinds of functions that may be behind each kind: a wrong fabric would give meaningless
 * groups.
 */
const mayBeBehind: Record<FunctionKind, readonly Place[]> = {
  endpoint: [null, 'root-port', 'downstream-port'],
  'integrated-endpoint': [null],
  // In emulated machines conventional devices answer on an Express port, so they do here.
  conventional: [null, 'root-port', 'downstream-port', 'pcie-to-pci-bridge', 'pci-bridge'],
  'root-port': [null],
  'upstream-port': ['root-port', 'downstream-port'],
  'downstream-port': ['upstream-port'],
  'pcie-to-pci-bridge': ['root-port', 'downstream-port'],
  'pci-bridge': [null, 'pcie-to-pci-bridge', 'pci-bridge'],
};

/** Ids of bridges that name none: those of QEMU's and of its models. */
const bridgeIds: Partial<Record<FunctionKind, string>> = {
  'root-port': '1b36:000c',
  'upstream-port': '104c:8232',
  'downstream-port': '104c:8233',
  'pcie-to-pci-bridge': '1b36:000e',
  'pci-bridge': '1b36:0001',
};

/**
 * @param behind kind of the bridge above, null on the root bus; ANYWHERE for a function of a
 *   recording, which is where it was found
 * @throws VfioError EINVAL for a model that is not registered, a device that cannot be there, or
 * attributes that do not fit together
 */
export function buildFunction(spec: FunctionSpec, behind: Place | typeof ANYWHERE, models: ModelRegistry, failed: Failed): BuiltFunction {
  const place = behind === ANYWHERE ? null : behind;
  using undo = new Cleanup();
  const model = spec.model === undefined ? null : resolveModel(spec, spec.model, models, undo, failed);
  const kind = model === null ? (spec.kind ?? defaultKind(place)) : kindOfModel(spec, model.declaration);
  if (!Object.hasOwn(mayBeBehind, kind)) throw new VfioError('EINVAL', `${spec.at}: unknown kind '${String(kind)}'`);
  if (behind !== ANYWHERE && !mayBeBehind[kind].includes(behind)) {
    throw new VfioError('EINVAL', `${spec.at}: ${kind} cannot be ${behind === null ? 'on the root bus' : `behind a ${behind}`}`, {
      fix: `It can be ${mayBeBehind[kind].map((p) => (p === null ? 'on the root bus' : `behind a ${p}`)).join(' or ')}.`,
    });
  }
  if (spec.devices !== undefined && !bridgeKinds.has(kind)) {
    throw new VfioError('EINVAL', `${spec.at}: ${kind} has devices behind it, but only bridges and ports can`);
  }
  for (const key of ['interruptDisable', 'link'] as const) {
    if (model !== null && spec[key] !== undefined) {
      throw new VfioError('EINVAL', `${spec.at}: \`${key}\` is for stubs; the model ${model.declaration.name} says that itself`);
    }
  }
  const declared = withAcs(spec, kind, model === null, model?.declaration ?? stub(spec, kind));
  const sriov = sriovOf(spec, kind, model);
  if ((spec.numVfs ?? 0) !== 0 && sriov === null) {
    throw new VfioError('EINVAL', `${spec.at}: it has no virtual functions to enable`, {
      fix: 'Give a stub `sriov`, or use a model that has them, such as edu with the option `vfs`.',
    });
  }
  if (sriov !== null && checkIndex(spec.numVfs ?? 0, 0xffff, `${spec.at}: numVfs`) > sriov.totalVfs) {
    throw new VfioError('EINVAL', `${spec.at}: numVfs is ${spec.numVfs}, and it can have ${sriov.totalVfs} virtual functions`);
  }
  return { kind, declaration: sriov === null ? declared : physicalFunctionOf(declared, sriov), model, sriov, owns: undo.move() };
}

function sriovOf(spec: FunctionSpec, kind: FunctionKind, model: DeviceModel | null): SriovDeclaration | null {
  if (spec.sriov === undefined) return model?.sriov ?? null;
  if (model !== null) {
    throw new VfioError('EINVAL', `${spec.at}: \`sriov\` is for stubs; the model ${model.declaration.name} says itself what VFs it has`);
  }
  const { totalVfs, device, bars = [], firstOffset, stride } = spec.sriov;
  const vendor = (spec.id ?? '').slice(0, 4);
  const vf = stub(
    { at: spec.at, id: device === undefined ? spec.id! : `${vendor}:${device}`, bars, classCode: spec.classCode ?? 0xff0000 },
    kind,
  );
  return {
    totalVfs,
    // Its BARs read as all ones, as those of its PF do.
    vf: { declaration: vf, create: () => ({ read: () => 0xffff_ffff, write: () => {}, reset: () => {} }) },
    ...(firstOffset === undefined ? {} : { firstOffset }),
    ...(stride === undefined ? {} : { stride }),
  };
}

function resolveModel(spec: FunctionSpec, reference: ModelReference, models: ModelRegistry, undo: Cleanup, failed: Failed): DeviceModel {
  if (typeof reference !== 'string') {
    if (typeof reference?.create === 'function' && typeof reference.declaration === 'object') return reference;
    throw new VfioError('EINVAL', `${spec.at}: \`model\` is neither the name of a model nor one`, {
      fix: 'Give what device() made, or an object with `declaration` and `create`.',
    });
  }
  const found = Object.hasOwn(models, reference) ? models[reference]! : null;
  if (found === null) {
    const known = Object.keys(models).sort();
    throw new VfioError('EINVAL', `${spec.at}: there is no model '${reference}'`, {
      fix: known.length === 0 ? 'This machine was given no models.' : `Known models: ${known.join(', ')}.`,
    });
  }
  if (typeof found !== 'function') return found;
  const made = found(spec.options ?? {});
  undo.use(ownedBy(made.declaration.name, made.owns, failed));
  return made;
}

function kindOfModel(spec: FunctionSpec, declaration: PciDeclaration): FunctionKind {
  const express = (declaration.capabilities ?? []).find((c) => c.id === CapId.EXP);
  const port = express === undefined ? null : (express.bytes[PciExp.FLAGS]! & PciExp.FLAGS_TYPE) >> PciExp.FLAGS_TYPE_SHIFT;
  const kind = port !== null ? kindOfPort[port] : declaration.header === 'bridge' ? 'pci-bridge' : 'conventional';
  if (kind === undefined)
    throw new VfioError('EINVAL', `${spec.at}: ${declaration.name} has PCI Express port type ${port}, which no machine here can hold`);
  if (spec.kind !== undefined && spec.kind !== kind) {
    throw new VfioError('EINVAL', `${spec.at}: declared as ${spec.kind}, but ${declaration.name} is ${kind}`, {
      fix: 'Leave `kind` out: the model says what it is.',
    });
  }
  return kind;
}

function defaultKind(behind: Place): FunctionKind {
  switch (behind) {
    case null:
      return 'integrated-endpoint';
    case 'pci-bridge':
    case 'pcie-to-pci-bridge':
      return 'conventional';
    case 'upstream-port':
      return 'downstream-port';
    default:
      return 'endpoint';
  }
}

function stub(spec: FunctionSpec, kind: FunctionKind): PciDeclaration {
  const bridge = bridgeKinds.has(kind);
  const id = spec.id ?? bridgeIds[kind];
  if (id === undefined) {
    throw new VfioError('EINVAL', `${spec.at}: a device needs a \`model\`, or an \`id\` (vendor:device) to stand for one`);
  }
  const subsystem = spec.subsystem === undefined ? null : parseIds(spec.subsystem, `${spec.at}: subsystem`);
  const portType = portTypes[kind];
  const flr = !bridge && spec.reset !== 'none';
  const capabilities: Capability[] = [pm()];
  const vectors = spec.msi ?? 1;
  if (vectors !== 0 && kind !== 'pci-bridge') capabilities.push(msi({ vectors }));
  if (portType !== undefined) capabilities.push(pcie({ portType, flr, slot: spec.slot === true, ...linkOf(spec, kind) }));
  else if (flr) capabilities.push(af());
  return {
    name: spec.name ?? (bridge ? kind.replaceAll('-', ' ') : id),
    ...parseIds(id, `${spec.at}: id`),
    classCode: spec.classCode ?? (bridge ? 0x060400 : 0xff0000),
    header: bridge ? 'bridge' : 'endpoint',
    ...(subsystem === null ? {} : { subsystemVendor: subsystem.vendor, subsystem: subsystem.device }),
    ...(bridge ? {} : { interruptPin: 1 as const }),
    ...(spec.interruptDisable === undefined ? {} : { interruptDisable: spec.interruptDisable }),
    bars: spec.bars ?? [],
    capabilities,
  };
}

function linkOf(spec: FunctionSpec, kind: FunctionKind): Pick<PcieOptions, 'linkSpeed' | 'linkWidth' | 'linkActive'> {
  if (spec.link === undefined) return {};
  if (kind !== 'root-port' && kind !== 'downstream-port') {
    throw new VfioError('EINVAL', `${spec.at}: \`link\` is for root ports and downstream ports, and this is ${kind}`);
  }
  const { generation = 1, width = 1, active } = spec.link;
  const reports = generation > 2 || active !== undefined;
  return { linkSpeed: generation, linkWidth: width, ...(reports ? { linkActive: active ?? true } : {}) };
}

function withAcs(spec: FunctionSpec, kind: FunctionKind, isStub: boolean, declaration: PciDeclaration): PciDeclaration {
  const wanted = spec.acs ?? (isStub ? kind === 'root-port' || kind === 'downstream-port' : undefined);
  if (wanted === undefined) return declaration;
  const extended = declaration.extendedCapabilities ?? [];
  const others = extended.filter((c) => c.name !== 'Access Control Services');
  if (!wanted) return others.length === extended.length ? declaration : { ...declaration, extendedCapabilities: others };
  if (others.length !== extended.length) return declaration;
  if (!(declaration.capabilities ?? []).some((c) => c.id === CapId.EXP) || kind === 'pcie-to-pci-bridge') {
    throw new VfioError('EINVAL', `${spec.at}: ${kind} cannot have access control services (acs); only PCI Express ports and functions do`);
  }
  return { ...declaration, extendedCapabilities: [...others, acs()] };
}
