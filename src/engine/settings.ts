// What the user set for the engine: environment variables first, then config.json, then the default.
import { type ConfigFile, readConfig, SETTINGS, settingValue } from "../config/settings.ts";

export interface Settings {
  readonly driver: "auto" | "firecracker" | "qemu";
  /** Where the user says that Firecracker is. */
  readonly firecracker: string | undefined;
  readonly unconfined: boolean;
  readonly poolSize: number;
  readonly templateLimit: number;
  readonly networkNamespace: string | undefined;
  readonly nameServers: readonly string[] | undefined;
  readonly publicRanges: readonly string[] | undefined;
  /** 0 for no limit. */
  readonly networkMibPerSecond: number;
  readonly brokerAuthorities: string | undefined;
}

/** Errors: INVALID_INPUT naming the variable or file that cannot be understood. */
export function readSettings(environment: NodeJS.ProcessEnv, file: ConfigFile = readConfig(environment)): Settings {
  return {
    driver: settingValue(SETTINGS.driver, environment, file),
    firecracker: settingValue(SETTINGS.firecracker, environment, file),
    unconfined: settingValue(SETTINGS.unconfined, environment, file),
    poolSize: settingValue(SETTINGS.poolSize, environment, file),
    templateLimit: settingValue(SETTINGS.templateLimit, environment, file),
    networkNamespace: settingValue(SETTINGS.networkNamespace, environment, file),
    nameServers: settingValue(SETTINGS.nameServers, environment, file),
    publicRanges: settingValue(SETTINGS.publicRanges, environment, file),
    networkMibPerSecond: settingValue(SETTINGS.networkMibPerSecond, environment, file),
    brokerAuthorities: settingValue(SETTINGS.brokerAuthorities, environment, file),
  };
}
