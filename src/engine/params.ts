/**
 * The module parameters of vfio, vfio-pci and vfio_iommu_type1 (B.8), and the engine's own. The
 * machine gets them when it is switched on; some can be set again while it runs.
 *
 * @see linux/drivers/vfio/pci/vfio_pci.c, linux/drivers/vfio/vfio_iommu_type1.c:
 * module_param_named()
 */
import { DMA_ENTRY_LIMIT } from '../abi/vfio.ts';
import { checkIndex } from '../base/check.ts';
import { VfioError } from '../base/errno.ts';

/** The module parameters of vfio, vfio-pci and vfio_iommu_type1 that the engine has. */
export interface EngineParams {
  /** type1 dma_entry_limit: mappings per container. A container keeps the limit it began with. */
  readonly dmaEntryLimit: number;
  /** type1 allow_unsafe_interrupts: attach groups whose MSIs are not isolated. */
  readonly allowUnsafeInterrupts: boolean;
  /**
   * vfio enable_unsafe_noiommu_mode: vfio-pci also takes devices without an IOMMU, whose users
   * reach all of the memory that devices reach.
   */
  readonly unsafeNoIommu: boolean;
  /** vfio-pci nointxmask: never use COMMAND.InterruptDisable to mask. */
  readonly noIntxMask: boolean;
  /** vfio-pci disable_idle_d3: keep unused devices in D0. */
  readonly disableIdleD3: boolean;
  /** vfio-pci enable_sriov: let sriov_numvfs of functions under vfio-pci be written. */
  readonly enableSriov: boolean;
  /**
   * vfio-pci disable_denylist: bind devices that are known to harm their host in a user's hands.
   */
  readonly disableDenylist: boolean;
  /** The engine's own (S2-31): refuse to bind a device that cannot be reset. */
  readonly requireReset: boolean;
  /**
   * The engine's own (S2-41): revoke an unplugged device this long after the first request; null:
   * wait without end, as Linux does.
   */
  readonly forceRevokeAfterMs: number | null;
  /** The engine's own (S2-42): the time that a suspend waits for the drivers' acknowledgements. */
  readonly suspendTimeoutMs: number;
  /** The machine: MSI and MSI-X vectors that all devices share (B.9); null: no limit. */
  readonly maxVectors: number | null;
  /**
   * The machine: MSI-X vectors can be added while others are in use, as on Linux 6.4 and newer;
   * without it GET_IRQ_INFO reports NORESIZE (B.9).
   */
  readonly dynamicMsix: boolean;
}

/** The name of a parameter of the engine. */
export type ParamName = keyof EngineParams;
/** The value of a parameter. */
export type ParamValue = EngineParams[ParamName];

interface Parameter {
  readonly initial: ParamValue;
  /** Largest number; absent on a flag. */
  readonly max?: number;
  /** Null is a value: no limit. */
  readonly nullable?: true;
  /** The parameter's name in Linux; null for the engine's own. */
  readonly linux: string | null;
  /** Why it cannot be set while the machine runs; null: it can. */
  readonly fixedBecause: string | null;
}

/** 24 days: timers take no more. */
const MAX_DELAY_MS = 2 ** 31 - 1;
const AT_LOAD = 'vfio-pci reads it once, when it is loaded';
const HARDWARE = 'it is a property of the machine';

const parameters: Readonly<Record<ParamName, Parameter>> = {
  dmaEntryLimit: { initial: DMA_ENTRY_LIMIT, max: 0xffff_ffff, linux: 'vfio_iommu_type1.dma_entry_limit', fixedBecause: null },
  allowUnsafeInterrupts: { initial: false, linux: 'vfio_iommu_type1.allow_unsafe_interrupts', fixedBecause: null },
  unsafeNoIommu: { initial: false, linux: 'vfio.enable_unsafe_noiommu_mode', fixedBecause: null },
  noIntxMask: { initial: false, linux: 'vfio_pci.nointxmask', fixedBecause: AT_LOAD },
  disableIdleD3: { initial: false, linux: 'vfio_pci.disable_idle_d3', fixedBecause: AT_LOAD },
  enableSriov: { initial: false, linux: 'vfio_pci.enable_sriov', fixedBecause: null },
  disableDenylist: { initial: false, linux: 'vfio_pci.disable_denylist', fixedBecause: 'Linux makes it read-only (0444)' },
  requireReset: { initial: false, linux: null, fixedBecause: null },
  forceRevokeAfterMs: { initial: null, max: MAX_DELAY_MS, nullable: true, linux: null, fixedBecause: null },
  suspendTimeoutMs: { initial: 5000, max: MAX_DELAY_MS, linux: null, fixedBecause: null },
  maxVectors: { initial: null, max: 0xffff, nullable: true, linux: null, fixedBecause: HARDWARE },
  dynamicMsix: { initial: true, linux: null, fixedBecause: HARDWARE },
};

const paramNames = Object.keys(parameters) as readonly ParamName[];

/** The parameters of a machine that sets none. */
export const defaultParams = Object.fromEntries(paramNames.map((name) => [name, parameters[name].initial])) as unknown as EngineParams;

/** One parameter as an administrator sees it. */
export interface ParamState {
  readonly name: ParamName;
  /** `module.parameter` in Linux; null: Linux has none like it. */
  readonly linux: string | null;
  readonly value: ParamValue;
  /** Why it cannot be set while the machine runs; null: it can. */
  readonly fixedBecause: string | null;
}

/**
 * The defaults, except for the given values.
 *
 * @throws VfioError EINVAL for an unknown name, or a value of another kind than its default
 */
export function checkParams(given: Partial<EngineParams> = {}): EngineParams {
  for (const [name, value] of Object.entries(given)) checkParam(name, value);
  return { ...defaultParams, ...given };
}

function checkParam(name: string, value: unknown): void {
  if (!Object.hasOwn(parameters, name)) {
    throw new VfioError('EINVAL', `there is no parameter '${name}'`, { fix: `There are ${paramNames.join(', ')}.` });
  }
  const { max, nullable } = parameters[name as ParamName];
  if (max === undefined) {
    if (typeof value !== 'boolean') throw new VfioError('EINVAL', `${name} is ${String(value)}; it must be true or false`);
  } else if (value !== null || nullable === undefined) checkIndex(value as number, max, name);
}

/** The texts that sysfs takes for a flag (kstrtobool). */
const flagTexts: Readonly<Record<string, boolean>> = {
  y: true,
  yes: true,
  true: true,
  on: true,
  1: true,
  n: false,
  no: false,
  false: false,
  off: false,
  0: false,
};

/**
 * `true`, `Y`, `0`, `none`, `5000` and so on, for the parameter `name`. Any other text stays text,
 * and `checkParam` refuses it.
 */
function parsed(name: ParamName, text: string): unknown {
  const { max, nullable } = parameters[name];
  const word = text.trim().toLowerCase();
  if (max === undefined) return Object.hasOwn(flagTexts, word) ? flagTexts[word] : text;
  if (nullable !== undefined && (word === 'none' || word === 'null')) return null;
  return /^(?:0x[0-9a-f]{1,8}|\d{1,10})$/.test(word) ? Number(word) : text;
}

/**
 * The parameter of that name, the engine's (`enableSriov`) or Linux's (`enable_sriov`,
 * `vfio_pci.enable_sriov`).
 *
 * @throws VfioError ENOENT
 */
function paramByName(name: string): ParamName {
  for (const ours of paramNames) {
    const { linux } = parameters[ours];
    if (name === ours || (linux !== null && (name === linux || name === linux.slice(linux.indexOf('.') + 1)))) return ours;
  }
  throw new VfioError('ENOENT', `there is no parameter '${String(name)}'`, { fix: `There are ${paramNames.join(', ')}.` });
}

/**
 * Write a parameter of a running machine, as to /sys/module/MODULE/parameters.
 *
 * @param value its value, or text as sysfs takes it: `Y`, `0`, `5000`
 * @throws VfioError ENOENT an unknown name; EACCES one that cannot be set at run time; EINVAL a
 * value that does not fit. Nothing has changed then.
 */
export function writeParam(params: EngineParams, name: string, value: ParamValue | string): ParamName {
  const ours = paramByName(name);
  const { fixedBecause } = parameters[ours];
  if (fixedBecause !== null) {
    throw new VfioError('EACCES', `${ours} cannot be set while the machine runs: ${fixedBecause}`, {
      fix: `Set it in the machine file: \`params: { ${ours}: … }\`.`,
    });
  }
  const checked = typeof value === 'string' ? parsed(ours, value) : value;
  checkParam(ours, checked);
  (params as Record<ParamName, unknown>)[ours] = checked;
  return ours;
}

export function paramStates(params: EngineParams): readonly ParamState[] {
  return paramNames.map((name) => {
    const { linux, fixedBecause } = parameters[name];
    return { name, linux, value: params[name], fixedBecause };
  });
}
