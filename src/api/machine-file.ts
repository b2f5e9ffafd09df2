/**
 * Machines as YAML. Every scalar is read as text and given its meaning here, so that `at: 04.0` is
 * an address and never a number. What is wrong is told with file, line and column, all of it at
 * once.
 */
import { readFileSync } from 'node:fs';
import { type Document, isMap, isNode, LineCounter, parseDocument } from 'yaml';
import { z } from 'zod';
import { VfioError } from '../base/errno.ts';
import { SIZE_FORMS, SIZE_PATTERN, sizeOf } from '../base/size.ts';
import { type FunctionKind, type FunctionSpec, groupings, type MachineSpec } from '../engine/machine/machine-spec.ts';
import { classCodes, parseClass } from '../pci/class-codes.ts';
import { fromNode } from '../sys/system-error.ts';

/** Larger files are refused before they are parsed. */
export const MAX_FILE_BYTES = 2 ** 20;

/** How a value that we read as text looks to an editor with the JSON Schema. */
const asJson = (schema: Record<string, unknown>) => ({ json: schema });

const flag = z
  .enum(['true', 'false'], { error: 'expected true or false' })
  .transform((text) => text === 'true')
  .meta(asJson({ type: 'boolean' }));

const digits = /^(?:0x[0-9a-f]{1,16}|\d{1,20})$/i;
const number = z
  .string()
  .regex(digits, { error: 'expected a number, decimal or 0x…' })
  .transform(Number)
  .refine(Number.isSafeInteger, { error: 'the number is too large' })
  .meta(
    asJson({
      oneOf: [
        { type: 'integer', minimum: 0 },
        { type: 'string', pattern: '^0x[0-9a-fA-F]+$' },
      ],
    }),
  );

const address = z
  .string()
  .regex(digits, { error: 'expected an address, decimal or 0x…' })
  .transform((text) => BigInt(text))
  .refine((value) => value <= 0xffff_ffff_ffff_ffffn, { error: 'expected an address below 2^64' })
  .meta(
    asJson({
      oneOf: [
        { type: 'integer', minimum: 0 },
        { type: 'string', pattern: '^0x[0-9a-fA-F]{1,16}$' },
      ],
    }),
  );

const size = z
  .string()
  .transform(sizeOf)
  .refine((value) => Number.isSafeInteger(value), { error: `expected ${SIZE_FORMS}` })
  .meta(
    asJson({
      oneOf: [
        { type: 'integer', minimum: 0 },
        { type: 'string', pattern: SIZE_PATTERN },
      ],
    }),
  );

const text = z.string().min(1).max(256);

const at = text
  .describe(
    'device.function on its bus (04.0), or the full address (0000:00:04.0), which on the top level names the root bus (60:01.0, 0001:00:00.0)',
  )
  .meta(asJson({ oneOf: [{ type: 'string', pattern: '^([0-9a-fA-F:]+:)?[0-9a-fA-F]{1,2}\\.[0-7]$' }, { type: 'number' }] }));

const ids = z
  .string()
  .regex(/^[0-9a-f]{4}:[0-9a-f]{4}$/i, { error: 'expected vendor:device, four hexadecimal digits each' })
  .meta({ pattern: '^[0-9a-fA-F]{4}:[0-9a-fA-F]{4}$' });

const classCode = z
  .string()
  .transform((code, context) => {
    try {
      return parseClass(code, 'class');
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
      context.addIssue({ code: 'custom', message: `${error.message}; ${error.fix}` });
      return z.NEVER;
    }
  })
  .meta(
    asJson({
      anyOf: [{ enum: Object.keys(classCodes) }, { type: 'string', pattern: '^(0x)?[0-9a-fA-F]{6}$' }, { type: 'integer' }],
    }),
  )
  .describe('a name, or six hexadecimal digits such as 020000');

const reserved = z
  .strictObject({
    first: address,
    last: address.describe('inclusive'),
    kind: z.enum(['direct', 'relaxable', 'reserved', 'msi']).default('reserved'),
  })
  .describe('I/O addresses that cannot be mapped');

const iommu = z.strictObject({
  kind: z.enum(['none', 'translation', 'full']).default('full').describe('translation: remaps but does not isolate, so it makes no groups'),
  isolatedMsi: flag.optional().describe('interrupt remapping; default true'),
  coherent: flag.optional().describe('DMA is coherent with the caches; default true'),
  enforcesCoherency: flag.optional().describe('no-snoop DMA can be blocked; default false'),
  pageSizes: z
    .array(size)
    .min(1)
    .transform((sizes) => sizes.reduce((map, s) => map | BigInt(s), 0n))
    .optional()
    .describe('default 4K, 2M, 1G'),
  aperture: z.strictObject({ first: address, last: address }).optional().describe('default the first 2^48 addresses'),
  reserved: z.array(reserved).max(64).optional().describe('default the x86 MSI window'),
});

const bar = z.strictObject({
  index: number.refine((i) => i <= 5, { error: 'BARs are 0 to 5' }),
  size,
  type: z.enum(['mem32', 'mem64', 'io']).default('mem32'),
  prefetchable: flag.optional(),
  backing: z.enum(['registers', 'memory']).optional(),
});

const sriov = z.strictObject({
  totalVfs: number,
  device: z
    .string()
    .regex(/^[0-9a-f]{4}$/i, { error: 'expected a device id of four hexadecimal digits' })
    .meta(asJson({ oneOf: [{ type: 'string', pattern: '^[0-9a-fA-F]{4}$' }, { type: 'integer' }] }))
    .optional()
    .describe("device id of the VFs; the PF's unless told"),
  bars: z.array(bar).max(6).optional().describe('of each VF'),
  firstOffset: number.optional().describe("from the PF's routing id to that of VF 0; default 1"),
  stride: number.optional().describe("from one VF's routing id to the next one's; default 1"),
});

const kinds = [
  'endpoint',
  'integrated-endpoint',
  'conventional',
  'root-port',
  'upstream-port',
  'downstream-port',
  'pcie-to-pci-bridge',
  'pci-bridge',
] as const satisfies readonly FunctionKind[];

const limit = z
  .union([z.literal('none').transform(() => null), number])
  .meta(asJson({ oneOf: [{ type: 'integer', minimum: 0 }, { const: 'none' }] }));

const params = z
  .strictObject({
    dmaEntryLimit: number.optional().describe('type1 dma_entry_limit: mappings per container; default 65535'),
    allowUnsafeInterrupts: flag
      .optional()
      .describe('type1 allow_unsafe_interrupts: groups whose interrupts are not isolated; default false'),
    noIntxMask: flag.optional().describe('vfio-pci nointxmask; default false'),
    disableIdleD3: flag.optional().describe('vfio-pci disable_idle_d3; default false'),
    enableSriov: flag.optional().describe('vfio-pci enable_sriov; default false'),
    disableDenylist: flag.optional().describe('vfio-pci disable_denylist; default false'),
    requireReset: flag.optional().describe('bind no device that cannot be reset; default false'),
    forceRevokeAfterMs: limit.optional().describe('take an unplugged device from its users after so long; default none: wait for ever'),
    suspendTimeoutMs: number.optional().describe('how long a suspend waits for drivers; default 5000'),
    maxVectors: limit.optional().describe('MSI and MSI-X vectors that all devices share; default none: no limit'),
    dynamicMsix: flag.optional().describe('MSI-X vectors can be added while others are in use; default true'),
  })
  .describe("module parameters of vfio, and the machine's own");

const link = z
  .strictObject({
    generation: number
      .refine((g) => g >= 1 && g <= 6, { error: 'generations are 1 to 6' })
      .optional()
      .describe('default 1: 2.5 GT/s'),
    width: number.optional().describe('lanes; default 1'),
    active: flag.optional().describe('what a port that reports its link says of it; false as QEMU under ACPI hot plug'),
  })
  .describe('the link below a port');

const device = z
  .strictObject({
    at,
    kind: z.enum(kinds).optional().describe('default: what the model says; endpoint behind a port, integrated-endpoint on the root bus'),
    name: text.optional(),
    model: text
      .optional()
      .describe(
        'a software device: nvme, edu, bench, or a file with one such as ./my-device.ts, relative to this file; without one it is a stub',
      ),
    options: z.record(z.string(), z.unknown()).optional().describe('given to the model'),
    id: ids.optional().describe('vendor:device of a stub'),
    subsystem: ids.optional(),
    class: classCode.optional(),
    acs: flag.optional().describe('access control services; default true for ports'),
    reset: z.enum(['flr', 'none']).optional(),
    interruptDisable: flag.optional().describe('false: a stub older than PCI 2.3, without COMMAND.InterruptDisable; default true'),
    intxRouted: flag.optional().describe('false: the platform has no interrupt for its INTx pin; default true'),
    link: link.optional(),
    msi: number.optional().describe('MSI vectors of a stub'),
    bars: z.array(bar).max(6).optional(),
    sriov: sriov.optional().describe('makes a stub a physical function; a model says so itself'),
    numVfs: number.optional().describe('virtual functions enabled at power-on, once its driver is bound (sriov_numvfs)'),
    vfDriver: text.optional().describe('of its virtual functions; those of a device under vfio-pci get vfio-pci in any case'),
    driver: text
      .transform((name) => (name === 'none' ? null : name))
      .meta({ type: 'string' })
      .optional()
      .describe('bound at power-on; none for no driver; left out: whichever matches'),
    driverOverride: text.optional(),
    iommu: text.optional().describe('one of `iommus`; only on a root bus'),
    reserved: z.array(reserved).max(64).optional().describe('windows that firmware reserves for this device'),
    dmaAliases: z.array(at).max(8).optional(),
    requester: text
      .optional()
      .describe(
        'only on a root bus: the function whose requester id all DMA from here carries (Intel VMD, found by itself for domains from 10000)',
      ),
    slot: flag.optional().describe('a port with a hot-plug slot'),
    bus: number.optional().describe('bus number behind this bridge, one that no other bridge forwards; default: the next one, depth-first'),
    get devices() {
      return z.array(device).max(256).optional().describe('what is behind this bridge');
    },
  })
  .meta({ id: 'device' });

/** @internal The form of a machine file; zod is no part of the declarations. */
export const machineSchema = z
  .strictObject({
    name: text.optional(),
    iommu: iommu.optional().describe('of every device that names no other'),
    iommus: z.record(z.string().min(1).max(64), iommu).optional(),
    grouping: z
      .enum(groupings)
      .optional()
      .describe('linux (default): the groups that Linux 7.3 makes; strict: a switch with one port without ACS isolates nothing behind it'),
    hostDrivers: z
      .array(
        z.strictObject({
          name: text,
          ids: z
            .array(
              z.string().regex(/^(?:[0-9a-f]{4}:[0-9a-f]{4}|class:(?:[0-9a-f]{2}){1,3})$/i, { error: 'expected vendor:device or class:…' }),
            )
            .max(256)
            .optional(),
          dma: z.enum(['kernel', 'managed', 'own-domain']).optional(),
          sriov: flag.optional().describe('it can enable virtual functions'),
        }),
      )
      .max(256)
      .optional()
      .describe('native drivers, and the devices they take by themselves'),
    memoryBase: number.optional().describe('where 32-bit BARs start'),
    enableSriov: flag.optional().describe('short for params.enableSriov'),
    mediators: z
      .array(text)
      .max(64)
      .optional()
      .describe('files with mediators, relative to this one, in the order in which they are asked'),
    params: params.optional(),
    pageSize: size.optional().describe('of the CPU: 4K (default), 16K or 64K'),
    devices: z.array(device).min(1).max(256).describe('on root bus 0000:00, and on each other one that an address names'),
  })
  .meta({ title: 'vfio-ts machine', description: 'PCI devices, buses and IOMMUs of a machine' });

type ParsedDevice = z.output<typeof device>;

/** The JSON Schema of machine files, for editors; committed as schemas/machine.schema.json. */
export function machineJsonSchema(): Record<string, unknown> {
  const schema = z.toJSONSchema(machineSchema, {
    io: 'input',
    override: ({ jsonSchema }) => {
      const { json, description } = jsonSchema as { json?: Record<string, unknown>; description?: string };
      if (json === undefined) return;
      for (const key of Object.keys(jsonSchema)) delete (jsonSchema as Record<string, unknown>)[key];
      Object.assign(jsonSchema, description === undefined ? {} : { description }, json);
    },
  });
  return schema as Record<string, unknown>;
}

/** @throws VfioError ENOENT when the file cannot be read; EINVAL as `parseMachine` */
export function readMachineFile(path: string): MachineSpec {
  if (typeof path !== 'string') throw new VfioError('EINVAL', 'the name of a machine file is not a string');
  let source: string;
  try {
    source = readFileSync(path, 'utf8');
  } catch (error) {
    throw fromNode(error, `the machine file ${path} cannot be read`, { fix: 'examples/machines/ has machines to start from.' });
  }
  return parseMachine(source, path);
}

/**
 * @param file name for messages
 * @throws VfioError EINVAL with one line per problem: `file:line:column: path: what is wrong`
 */
export function parseMachine(source: string, file = 'machine.yaml'): MachineSpec {
  if (typeof source !== 'string') throw new VfioError('EINVAL', `${file} is not text`);
  if (Buffer.byteLength(source) > MAX_FILE_BYTES) throw new VfioError('EINVAL', `${file} is larger than ${MAX_FILE_BYTES} bytes`);
  try {
    return parse(source, file);
  } catch (error) {
    // The one way in which a bounded text can still break a parser: nesting without end.
    if (error instanceof RangeError) throw invalid(file, [`${file}: nested too deeply`]);
    throw error;
  }
}

function parse(source: string, file: string): MachineSpec {
  const lines = new LineCounter();
  const document = parseDocument(source, { lineCounter: lines, schema: 'failsafe', prettyErrors: false });
  const place = (offset: number) => {
    const { line, col } = lines.linePos(offset);
    return `${file}:${line}:${col}`;
  };
  const problems = document.errors.map((e) => `${place(e.pos[0])}: ${e.message}`);
  if (problems.length > 0) throw invalid(file, problems);
  const plain = toPlain(document, place);
  const parsed = machineSchema.safeParse(plain);
  if (!parsed.success) {
    const found = parsed.error.issues.map((issue) => {
      const key = issue.code === 'unrecognized_keys' ? issue.keys.slice(0, 1) : [];
      const offset = offsetOf(document, [...issue.path, ...key]);
      return { offset, text: `${place(offset)}: ${pathText(issue.path)}${describe(issue)}` };
    });
    const inOrder = found.sort((a, b) => a.offset - b.offset);
    throw invalid(
      file,
      inOrder.map((problem) => problem.text),
    );
  }
  // Options belong to the model: they keep YAML's own types.
  const typed = parseDocument(source).toJS({ maxAliasCount: 100 }) as { devices?: unknown };
  const { devices, ...rest } = parsed.data;
  return clean({ ...rest, devices: devices.map((d, i) => toFunction(d, (typed.devices as unknown[])[i])) });
}

function toPlain(document: Document, place: (offset: number) => string): unknown {
  try {
    return document.toJS({ maxAliasCount: 100 });
  } catch (error) {
    throw invalid('machine file', [`${place(0)}: ${(error as Error).message}`]);
  }
}

function toFunction(parsed: ParsedDevice, typed: unknown): FunctionSpec {
  const { class: classCode, devices, options, ...rest } = parsed;
  const own = typed as { options?: Record<string, unknown>; devices?: unknown[] };
  return clean({
    ...rest,
    classCode,
    options: options === undefined ? undefined : own.options,
    devices: devices?.map((d, i) => toFunction(d, own.devices?.[i])),
  }) as unknown as FunctionSpec;
}

/** Without keys whose value is undefined. */
function clean<T extends object>(object: T): MachineSpec & T {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as MachineSpec & T;
}

function invalid(file: string, problems: readonly string[]): VfioError {
  const shown = problems.slice(0, 20);
  const more = problems.length > shown.length ? [`and ${problems.length - shown.length} more`] : [];
  return new VfioError('EINVAL', `${file} is not a machine`, {
    details: [...shown, ...more],
    fix: 'examples/machines/ has machines to start from; schemas/machine.schema.json describes them to an editor.',
  });
}

function pathText(path: readonly PropertyKey[]): string {
  if (path.length === 0) return '';
  return `${path.map((key, i) => (typeof key === 'number' ? `[${key}]` : `${i === 0 ? '' : '.'}${String(key)}`)).join('')}: `;
}

function describe(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'unrecognized_keys':
      return `unknown key ${issue.keys.map((k) => `'${k}'`).join(', ')}`;
    case 'invalid_value':
      return issue.message.startsWith('Invalid') ? `expected one of ${issue.values.map(String).join(', ')}` : issue.message;
    case 'invalid_type':
      return issue.input === undefined && issue.message.endsWith('received undefined')
        ? 'missing'
        : issue.message.replace('Invalid input: ', '');
    default:
      return issue.message;
  }
}

/** Where the value at `path` starts; the nearest one above it that is there. */
function offsetOf(document: Document, path: readonly PropertyKey[]): number {
  for (let length = path.length; length >= 0; length--) {
    const node = length === 0 ? document.contents : document.getIn(path.slice(0, length), true);
    if (isNode(node) && node.range != null) return node.range[0];
    const parent = length === 0 ? null : document.getIn(path.slice(0, length - 1), true);
    if (isMap(parent)) {
      const pair = parent.items.find((item) => isNode(item.key) && String(item.key) === String(path[length - 1]));
      if (pair !== undefined && isNode(pair.key) && pair.key.range != null) return pair.key.range[0];
    }
  }
  return 0;
}
