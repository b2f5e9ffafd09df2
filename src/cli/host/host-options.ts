/** This computer, or a copy of its files, as the options of a command name it. */
import { VfioError } from '../../base/errno.ts';
import { BindingRecords, RECORDS_FILE } from '../../host/binding-records.ts';
import { sshClientOf } from '../../host/ssh-session.ts';
import type { StakeOptions } from '../../host/stakes.ts';
import { type HostChanges, hostChanges } from '../../sys/host-changes.ts';
import { type HostFiles, hostFiles } from '../../sys/host-files.ts';

export interface HostOptions {
  readonly sysfs?: string;
  readonly state?: string;
}

/** A computer that commands read and change. */
export interface HostAccess {
  readonly files: HostFiles;
  readonly host: HostChanges;
  readonly records: BindingRecords;
  readonly stakes: StakeOptions;
}

/** @param changes the command changes the computer, which a copy cannot do */
export function hostAccess({ sysfs, state = RECORDS_FILE }: HostOptions, changes: boolean): HostAccess {
  const files = hostFiles(sysfs);
  if (!files.live && changes) {
    throw new VfioError('EINVAL', `${sysfs} is a copy of a computer’s files, and a copy is not changed`, {
      fix: 'Add --dry-run, which prints the commands.',
    });
  }
  const host = hostChanges();
  const sshClient = files.live ? sshClientOf(files, process.env.SSH_CONNECTION) : null;
  return { files, host, records: new BindingRecords(files, host, state), stakes: { sshClient } };
}

/** @throws VfioError EPERM for a user who may not change drivers */
export function checkAdministrator({ host }: HostAccess, command: string): void {
  if (host.permitsWrite('/sys/bus/pci/drivers_probe') || host.uid === 0) return;
  throw new VfioError('EPERM', `${command} changes drivers, which root alone may do`, { fix: `sudo vfio ${command} …` });
}
