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

/** The document of each command. */
export const hostDocuments = {
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
