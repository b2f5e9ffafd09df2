/**
 * The documents that the commands about this computer print with `--json`: their forms for
 * programs. The JSON Schemas in schemas/ follow from the same rows.
 */
import { z } from 'zod';

const bdf = z
  .string()
  .regex(/^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/)
  .describe('Domain, bus, device and function: 0000:03:00.0.');
const id = z.string().regex(/^[0-9a-f]{4}$/);
const count = z.int().min(0);
const driver = z.string().nullable().describe('A driver; null for none.');
const group = count.nullable().describe('The isolation group; null where no IOMMU isolates the function.');
const change = z.strictObject({ bdf, from: driver, to: driver });
const lines = z.array(z.string());

const user = z.strictObject({
  pid: count,
  program: z.string().describe('The name of the program.'),
  node: z.string().describe('The node in /dev that it has open.'),
});

const stake = z.strictObject({
  bdf,
  kind: z.enum(['file-system', 'swap', 'route', 'session', 'network', 'display', 'console', 'keyboard']),
  severe: z.boolean().describe('True: vfio bind refuses to take the function away. False: a remark.'),
  what: z.string().describe('The reason, as in “it …”: holds / (ext4).'),
});

const listed = z.strictObject({
  bdf,
  vendor: id,
  device: id,
  class: z.string().regex(/^[0-9a-f]{6}$/),
  name: z.string().describe('From the database of PCI ids, where the computer has one; else the class.'),
  isBridge: z.boolean(),
  driver,
  driverOverride: z.string().nullable(),
  group,
  numaNode: count.nullable(),
  physicalFunction: bdf.nullable().describe('Of a virtual function.'),
  virtualFunctions: z.array(bdf).describe('Of a physical function: the virtual ones that are enabled.'),
  numVfs: count.nullable().describe('How many are enabled; null for a function without SR-IOV.'),
  vfioDevices: lines.describe('Names in /dev/vfio/devices.'),
  users: z.array(user),
  stakes: z.array(stake).describe('Reasons why the computer needs the function, and remarks.'),
  state: z
    .enum(['needed', 'used', 'bridge', 'no-iommu', 'free'])
    .describe('free: a user can have it. needed, used: it, or another function of its group.'),
});

const counts = z.record(z.string(), count);
const sets = z.array(z.array(bdf));
const isolation = z.strictObject({ dma: z.boolean(), msi: z.boolean(), coherent: z.boolean() });
const culprit = z.strictObject({ bdf, driver, why: z.string(), fix: z.string() });

const shown = z.strictObject({
  bdf,
  name: z.string(),
  vendor: id,
  device: id,
  class: z.string().regex(/^[0-9a-f]{6}$/),
  kind: z.string().describe('The part in the fabric: endpoint, root-port, conventional, …'),
  parent: bdf.nullable().describe('The bridge above; null on a root bus.'),
  driver,
  driverOverride: z.string().nullable(),
  refused: z.string().nullable().describe('The reason why a driver could not have it.'),
  group,
  groupedBecause: z.string().nullable().describe('The reason why it shares its group.'),
  physicalFunction: bdf.nullable(),
  vfIndex: count.nullable(),
  tokenNeeded: z.boolean(),
  sriov: z.strictObject({ totalVfs: count, numVfs: count, inUse: count.nullable(), vfs: z.array(bdf) }).nullable(),
  open: z.boolean(),
  openBy: z.string().nullable().describe('The user who has it open.'),
  mediator: z.string().nullable(),
  virtualMachine: z.string().nullable(),
  dmaFaults: counts,
  interruptsDropped: counts,
});

/** The document of each command. */
export const hostDocuments = {
  show: z.strictObject({
    schema: z.literal('vfio-ts/show/1'),
    name: z.string(),
    functions: z.array(shown),
    groups: z.array(
      z.strictObject({
        id: count,
        functions: z.array(bdf),
        isolation,
        owned: z.boolean(),
        ownedBy: z.string().nullable(),
        viable: z.boolean().describe('A user could have it, or has it.'),
        culprits: z.array(culprit).describe('Members that are in the way.'),
      }),
    ),
    host: z
      .strictObject({
        source: z.enum(['this computer', 'sysfs', 'lspci', 'sosreport', 'hwloc']),
        origin: z.string().describe('The place that the picture was read from.'),
        hostname: z.string().nullable(),
        kernel: z.string().nullable(),
        commandLine: z.string().nullable(),
        iommus: lines.nullable().describe('Names of IOMMU units; null where the source does not say.'),
        interruptsRemapped: z.boolean().nullable(),
        groupsAreRecorded: z.boolean().describe('False: the groups follow from the fabric.'),
        differences: z
          .array(z.strictObject({ functions: z.array(bdf), recorded: sets, computed: sets, reason: z.string() }))
          .describe('Recorded groups that do not follow from the fabric.'),
        notes: lines.describe('Doubts about the source.'),
      })
      .optional()
      .describe('Of a computer; a machine of a file has none.'),
  }),
  explain: z.strictObject({
    schema: z.literal('vfio-ts/explain/1'),
    bdf,
    name: z.string(),
    id: z.string(),
    kind: z.string(),
    driver,
    driverOverride: z.string().nullable(),
    iommu: z.strictObject({ kind: z.enum(['none', 'translation', 'full']), isolatedMsi: z.boolean(), coherent: z.boolean() }),
    group: z
      .strictObject({
        id: count,
        members: z.array(
          z.strictObject({ bdf, name: z.string(), kind: z.string(), driver, because: z.string().nullable(), blocks: z.boolean() }),
        ),
        isolation,
        viable: z.boolean(),
        holder: z.string().nullable(),
      })
      .nullable(),
    physicalFunction: bdf.nullable(),
    virtualFunctions: z.array(bdf).nullable(),
    tokenNeeded: z.boolean(),
    culprits: z.array(culprit),
    blockers: z.array(z.strictObject({ at: z.string(), why: z.string(), fix: z.string() })),
    notes: lines.optional().describe('Facts that decide the group and that registers do not show.'),
    usable: z.boolean(),
    summary: z.string(),
  }),
  ls: z.strictObject({
    schema: z.literal('vfio-ts/ls/1'),
    functions: z.array(listed).describe('In order of address.'),
    groups: z.array(
      z.strictObject({
        id: count,
        node: z.string().describe('The node of the group, whether or not it is there.'),
        functions: z.array(bdf),
        safe: z.boolean().describe('True when the computer needs no function of it.'),
      }),
    ),
  }),
  bind: z.strictObject({
    schema: z.literal('vfio-ts/bind/1'),
    dryRun: z.boolean(),
    driver: z.string(),
    group,
    changed: z.array(change).describe('Empty for a dry run.'),
    left: z.array(z.strictObject({ bdf, driver })).describe('Members of the group that stay as they are.'),
    nodes: lines.describe('Nodes in /dev/vfio that users open.'),
    files: lines.describe('Files of --persist.'),
    warnings: lines.describe('Losses that --force accepts, and remarks.'),
    commands: lines.describe('Of a dry run: lines for a shell.'),
  }),
  restore: z.strictObject({
    schema: z.literal('vfio-ts/restore/1'),
    dryRun: z.boolean(),
    changed: z.array(change).describe('Empty for a dry run.'),
    gone: z.array(bdf).describe('Functions that are not there any more.'),
    files: lines.describe('Files of --persist that were removed.'),
    commands: lines.describe('Of a dry run: lines for a shell.'),
  }),
  doctor: z.strictObject({
    schema: z.literal('vfio-ts/doctor/1'),
    origin: z.string().describe('/ for this computer, else the copy.'),
    bdf: bdf.nullable().describe('The device that was looked at, too.'),
    problems: count,
    findings: z.array(
      z.strictObject({
        id: z.string().describe('The name of the check.'),
        title: z.string(),
        status: z.enum(['ok', 'warning', 'problem', 'unknown']),
        what: z.string().describe('The fact.'),
        why: z.string().optional().describe('The consequence.'),
        fix: z.string().optional().describe('The remedy.'),
      }),
    ),
  }),
  grant: z.strictObject({
    schema: z.literal('vfio-ts/grant/1'),
    user: z.string(),
    revoke: z.boolean(),
    nodes: z.array(
      z.strictObject({
        path: z.string(),
        before: z.strictObject({ uid: count, gid: count, mode: count }),
        after: z.strictObject({ uid: count, gid: count, mode: count }),
      }),
    ),
    rules: lines.describe('Rules of udev that were written, or removed.'),
    remarks: lines,
  }),
} as const;

export type HostDocumentName = keyof typeof hostDocuments;

/** The JSON Schema of a document, committed as schemas/NAME.schema.json. */
export function hostJsonSchema(name: HostDocumentName): Record<string, unknown> {
  return z.toJSONSchema(hostDocuments[name].meta({ title: `vfio ${name} --json` }), { io: 'output' }) as Record<string, unknown>;
}
