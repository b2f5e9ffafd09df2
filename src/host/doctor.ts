/**
 * Whether this computer can give devices to users: a table of checks, each with its finding, the
 * reason and the remedy.
 */
import type { HostChanges } from '../sys/host-changes.ts';
import type { HostFiles } from '../sys/host-files.ts';
import type { Check, CheckFinding, DoctorContext } from './doctor-check.ts';
import { deviceChecks } from './doctor-device.ts';
import { iommuChecks } from './doctor-iommu.ts';
import { kernelChecks } from './doctor-kernel.ts';
import { userChecks } from './doctor-user.ts';
import { functionStates } from './function-state.ts';
import type { StakeOptions } from './stakes.ts';

const checks: readonly Check[] = [...iommuChecks, ...kernelChecks, ...userChecks];

/** All findings, in the order of the checks. */
export function diagnose(
  files: HostFiles,
  host: HostChanges | null,
  bdf: string | null = null,
  stakes: StakeOptions = {},
): readonly CheckFinding[] {
  const context: DoctorContext = { files, host, functions: functionStates(files), bdf, stakes };
  return [...checks, ...(bdf === null ? [] : deviceChecks)].flatMap(({ id, title, probe }) => {
    const finding = probe(context);
    return finding === null ? [] : [{ id, title, ...finding }];
  });
}
