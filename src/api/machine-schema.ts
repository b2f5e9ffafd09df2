/**
 * The form of a machine file: every key, with its kind of value and a description. Scalars come as
 * text. The JSON Schema for editors follows from the same rows.
 */
import { z } from 'zod';
import { VfioError } from '../base/errno.ts';
import { SIZE_FORMS, SIZE_PATTERN, sizeOf } from '../base/size.ts';
import { linuxVersions } from '../engine/linux-version.ts';
import { type FunctionKind, groupings } from '../engine/machine/machine-spec.ts';
import { classCodes, parseClass } from '../pci/class-codes.ts';

/** The JSON Schema of a value, for editors, which read scalars with the types of YAML. */
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
    'device.function on its bus (04.0), or the full address (0000:00:04.0), which on the top level names the root bus (60:01.0, 0001:00:00.0).',
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
  .describe('A name, or six hexadecimal digits such as 020000.');

const reserved = z
  .strictObject({
    first: address,
    last: address.describe('Inclusive.'),
    kind: z.enum(['direct', 'relaxable', 'reserved', 'msi']).default('reserved'),
  })
  .describe('I/O addresses that cannot be mapped.');

const iommu = z.strictObject({
  kind: z
    .enum(['none', 'translation', 'full'])
    .default('full')
    .describe('translation: the IOMMU remaps but does not isolate, so it makes no groups. Default: none.'),
  isolatedMsi: flag.optional().describe('Interrupt remapping. Default: true.'),
  coherent: flag.optional().describe('DMA is coherent with the caches. Default: true.'),
  enforcesCoherency: flag.optional().describe('No-snoop DMA can be blocked. Default: false.'),
  pageSizes: z
    .array(size)
    .min(1)
    .transform((sizes) => sizes.reduce((map, s) => map | BigInt(s), 0n))
    .optional()
    .describe('Default: 4K, 2M, 1G.'),
  aperture: z.strictObject({ first: address, last: address }).optional().describe('Default: the first 2^48 addresses.'),
  reserved: z.array(reserved).max(64).optional().describe('Default: the x86 MSI window.'),
  dirtyTracking: flag.optional().describe('Domains of an iommufd can note the pages that devices write. Default: false.'),
  pasidBits: number
    .refine((bits) => bits <= 20, { error: 'PASIDs have at most 20 bits' })
    .optional()
    .describe("Bits of the PASIDs of its devices' requests. Default: 0, none."),
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
    .describe("Device id of the VFs. Default: the PF's."),
  bars: z.array(bar).max(6).optional().describe('BARs of each VF.'),
  firstOffset: number.optional().describe("Distance from the PF's routing id to that of VF 0. Default: 1."),
  stride: number.optional().describe("Distance from one VF's routing id to the next one's. Default: 1."),
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
    dmaEntryLimit: number.optional().describe('type1 dma_entry_limit: mappings per container. Default: 65535.'),
    allowUnsafeInterrupts: flag
      .optional()
      .describe('type1 allow_unsafe_interrupts: accept groups whose interrupts are not isolated. Default: false.'),
    unsafeNoIommu: flag
      .optional()
      .describe('vfio enable_unsafe_noiommu_mode: vfio-pci also takes devices without an IOMMU. Default: false.'),
    noIntxMask: flag.optional().describe('vfio-pci nointxmask. Default: false.'),
    disableIdleD3: flag.optional().describe('vfio-pci disable_idle_d3. Default: false.'),
    enableSriov: flag.optional().describe('vfio-pci enable_sriov. Default: false.'),
    disableDenylist: flag.optional().describe('vfio-pci disable_denylist. Default: false.'),
    requireReset: flag.optional().describe('Refuse to bind a device that cannot be reset. Default: false.'),
    forceRevokeAfterMs: limit
      .optional()
      .describe('Time after which an unplugged device is taken from its users. Default: none, the engine waits for ever.'),
    suspendTimeoutMs: number.optional().describe('Time that a suspend waits for drivers. Default: 5000.'),
    maxVectors: limit.optional().describe('MSI and MSI-X vectors that all devices share. Default: none, no limit.'),
    dynamicMsix: flag.optional().describe('MSI-X vectors can be added while others are in use. Default: true.'),
  })
  .describe("Module parameters of vfio, and the machine's own.");

const link = z
  .strictObject({
    generation: number
      .refine((g) => g >= 1 && g <= 6, { error: 'generations are 1 to 6' })
      .optional()
      .describe('Default: 1, which is 2.5 GT/s.'),
    width: number.optional().describe('Lanes. Default: 1.'),
    active: flag.optional().describe('The state that a port reports of its link. False: as QEMU under ACPI hot plug.'),
  })
  .describe('The link below a port.');

/** No driver: the word, and YAML's own null, which is text here as every other value. */
const noDriver = /^(none|null|~)$/;

const device = z
  .strictObject({
    at,
    kind: z
      .enum(kinds)
      .optional()
      .describe('Default: the kind in the model; without a model, endpoint behind a port and integrated-endpoint on the root bus.'),
    name: text.optional(),
    model: text
      .optional()
      .describe(
        'A software device: nvme, 82576, edu, bench, endpoint-test, virtio-rng, or a file that declares one, such as ./my-device.ts, relative to this file. Without a model the device is a stub.',
      ),
    options: z.record(z.string(), z.unknown()).optional().describe('Options of the model.'),
    id: ids.optional().describe('vendor:device of a stub.'),
    subsystem: ids.optional(),
    class: classCode.optional(),
    acs: flag.optional().describe('Access control services. Default: true for ports.'),
    reset: z.enum(['flr', 'none']).optional(),
    interruptDisable: flag.optional().describe('False: a stub older than PCI 2.3, without COMMAND.InterruptDisable. Default: true.'),
    intxRouted: flag.optional().describe('False: the platform has no interrupt for the INTx pin of the device. Default: true.'),
    link: link.optional(),
    msi: number.optional().describe('MSI vectors of a stub.'),
    bars: z.array(bar).max(6).optional(),
    sriov: sriov.optional().describe('Makes a stub a physical function. A model declares its own SR-IOV.'),
    numVfs: number.optional().describe('Virtual functions enabled at power-on, after the driver is bound (sriov_numvfs).'),
    vfDriver: text.optional().describe('Driver of the virtual functions. Under a PF with vfio-pci they get vfio-pci in any case.'),
    driver: text
      .transform((name) => (noDriver.test(name) ? null : name))
      .meta({ type: 'string' })
      .optional()
      .describe('Driver bound at power-on; none: no driver. Default: the driver that matches.'),
    driverOverride: text.optional(),
    iommu: text.optional().describe('One of `iommus`. Only on a root bus.'),
    reserved: z.array(reserved).max(64).optional().describe('Windows that firmware reserves for this device.'),
    dmaAliases: z.array(at).max(8).optional(),
    requester: text
      .optional()
      .describe(
        'Only on a root bus: the function whose requester id all DMA from this bus carries (Intel VMD). Default for domains from 10000: the VMD function that the engine finds.',
      ),
    slot: flag.optional().describe('The port has a hot-plug slot.'),
    bus: number
      .optional()
      .describe('Bus number behind this bridge, one that no other bridge forwards. Default: the next one, depth-first.'),
    get devices() {
      return z.array(device).max(256).optional().describe('Devices behind this bridge.');
    },
  })
  .meta({ id: 'device' });

/** @internal The form of a machine file; zod is no part of the declarations. */
export const machineSchema = z
  .strictObject({
    name: text.optional(),
    iommu: iommu.optional().describe('IOMMU of every device that names no other.'),
    iommus: z.record(z.string().min(1).max(64), iommu).optional(),
    grouping: z
      .enum(groupings)
      .optional()
      .describe(
        'linux: the groups that Linux 7.3 makes; strict: a switch with one port without ACS isolates nothing behind it. Default: linux.',
      ),
    groups: z
      .array(z.strictObject({ id: number, functions: z.array(text).min(1).max(65_536).describe('Full addresses, such as 0000:03:00.0.') }))
      .max(65_536)
      .optional()
      .describe(
        'The isolation groups of a recorded computer, in place of those that follow from the fabric. Default: groups follow from the fabric.',
      ),
    recorded: flag
      .optional()
      .describe('The machine is a recording of a computer: unusual fabrics are accepted as they were found. Default: false.'),
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
          sriov: flag.optional().describe('The driver can enable virtual functions.'),
        }),
      )
      .max(256)
      .optional()
      .describe('Native drivers, and the devices that each of them takes by itself.'),
    memoryBase: number.optional().describe('Address at which 32-bit BARs start.'),
    enableSriov: flag.optional().describe('Short for params.enableSriov.'),
    mediators: z
      .array(text)
      .max(64)
      .optional()
      .describe('Files with mediators, relative to this file, in the order in which the machine asks them.'),
    params: params.optional(),
    linux: z
      .enum(linuxVersions)
      .meta(asJson({ enum: [...linuxVersions, ...linuxVersions.map(Number)] }))
      .optional()
      .describe('The kernel whose answers the machine gives where kernels differ. Default: 7.3.'),
    pageSize: size.optional().describe('Page size of the CPU: 4K, 16K or 64K. Default: 4K.'),
    // Root buses can be many, each with 256 functions; the size of the file is the limit before
    // this one.
    devices: z.array(device).min(1).max(65_536).describe('Devices on root bus 0000:00, and on each other root bus that an address names.'),
  })
  .meta({ title: 'vfio-ts machine', description: 'PCI devices, buses and IOMMUs of a machine.' });

export type ParsedDevice = z.output<typeof device>;

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
