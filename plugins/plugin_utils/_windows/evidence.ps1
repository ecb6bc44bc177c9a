# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# What a Windows host's exposure rests on besides its listeners, as one line of JSON; changes nothing. A part that cannot be
# read is null, and `errors` says why. Numbers are those of the CIM classes, which no language of the host translates.

[CmdletBinding(SupportsShouldProcess)]
param(
    # Programs whose command line is needed; that of others may hold secrets and stays here.
    [string[]]
    $Relays = @()
)

# The functions of a module do not see this, so that each is told as well: a failure must not look like an empty list.
$ErrorActionPreference = 'Stop'
$Ansible.Changed = $false
$evidence = @{
    version = 1
    hostname = $env:COMPUTERNAME
    errors = [System.Collections.Generic.List[object]]@()
}

function Read-Part {
    param([string]$Name, [scriptblock]$Script)
    $evidence[$Name] = $null
    try {
        $evidence[$Name] = @(& $Script)
    }
    catch {
        $evidence.errors.Add(@{ subject = $Name; text = [string]$_.Exception.Message })
    }
}

function Get-Raw {
    param($Instance, [string]$Property)
    $Instance.CimInstanceProperties[$Property].Value
}

Read-Part elevated {
    $identity = [Security.Principal.WindowsIdentity]::GetCurrent()
    ([Security.Principal.WindowsPrincipal]$identity).IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)
}

Read-Part service { [int](Get-Service -Name mpssvc -ErrorAction Stop).Status }

Read-Part profiles {
    Get-NetFirewallProfile -PolicyStore ActiveStore -ErrorAction Stop | ForEach-Object {
        @{
            name = [string]$_.Name
            enabled = [string]$_.Enabled
            inbound = [string]$_.DefaultInboundAction
            allow_rules = [string]$_.AllowInboundRules
            disabled_interfaces = @($_.DisabledInterfaceAliases | Where-Object { $_ } | ForEach-Object { [string]$_ })
        }
    }
}

# One call for each kind of filter, joined by the rule's InstanceID: asking rule by rule takes minutes.
Read-Part rules {
    $filters = @{}
    foreach ($kind in 'Port', 'Address', 'Application', 'Service', 'Interface', 'InterfaceType', 'Security') {
        $filters[$kind] = @{}
        & "Get-NetFirewall${kind}Filter" -PolicyStore ActiveStore -ErrorAction Stop | ForEach-Object { $filters[$kind][$_.InstanceID] = $_ }
    }
    Get-NetFirewallRule -PolicyStore ActiveStore -ErrorAction Stop |
        Where-Object { (Get-Raw $_ Enabled) -ne 2 -and (Get-Raw $_ Direction) -ne 2 } |
        ForEach-Object {
            $id = $_.InstanceID
            $of = @{}
            foreach ($kind in $filters.Keys) { $of[$kind] = $filters[$kind][$id] }
            @{
                name = [string]$_.DisplayName
                group = [string](Get-Raw $_ RuleGroup)
                direction = Get-Raw $_ Direction
                action = Get-Raw $_ Action
                profiles = Get-Raw $_ Profiles
                enforcement = @(Get-Raw $_ EnforcementStatus)
                owner = [string]$_.Owner
                platforms = @($_.Platform | Where-Object { $_ } | ForEach-Object { [string]$_ })
                # What a newer Windows ties a rule to; an older one does not have these.
                extras = @(
                    @($of.Address.RemoteDynamicKeywordAddresses) + (Get-Raw $_ PolicyAppId) + (Get-Raw $_ PackageFamilyName) |
                        Where-Object { $_ -and $_ -ne 'Any' } | ForEach-Object { [string]$_ }
                )
                protocol = [string]$of.Port.Protocol
                local_ports = @($of.Port.LocalPort | Where-Object { $_ } | ForEach-Object { [string]$_ })
                remote_ports = @($of.Port.RemotePort | Where-Object { $_ } | ForEach-Object { [string]$_ })
                dynamic_target = [string]$of.Port.DynamicTarget
                local_addresses = @($of.Address.LocalAddress | Where-Object { $_ } | ForEach-Object { [string]$_ })
                remote_addresses = @($of.Address.RemoteAddress | Where-Object { $_ } | ForEach-Object { [string]$_ })
                program = [string]$of.Application.Program
                package = [string]$of.Application.Package
                service = [string]$of.Service.Service
                interfaces = @($of.Interface.InterfaceAlias | Where-Object { $_ } | ForEach-Object { [string]$_ })
                interface_type = [string]$of.InterfaceType.InterfaceType
                authentication = [string]$of.Security.Authentication
                encryption = [string]$of.Security.Encryption
                override_block = [string]$of.Security.OverrideBlockRules
                local_user = [string]$of.Security.LocalUser
                remote_user = [string]$of.Security.RemoteUser
                remote_machine = [string]$of.Security.RemoteMachine
            }
        }
}

Read-Part addresses {
    Get-NetIPAddress -ErrorAction Stop | ForEach-Object {
        @{
            interface = [string]$_.InterfaceAlias
            index = [int]$_.InterfaceIndex
            address = [string]$_.IPAddress
            length = [int]$_.PrefixLength
        }
    }
}

Read-Part networks {
    Get-NetConnectionProfile -ErrorAction Stop | ForEach-Object {
        @{ index = [int]$_.InterfaceIndex; category = Get-Raw $_ NetworkCategory }
    }
}

Read-Part portproxy {
    $text = & netsh.exe interface portproxy show all | Out-String
    if ($LASTEXITCODE -ne 0) { throw "netsh: exit code ${LASTEXITCODE}: $text" }
    $text
}

Read-Part processes {
    Get-CimInstance -ClassName Win32_Process -ErrorAction Stop | ForEach-Object {
        $name = ([string]$_.Name).ToLowerInvariant() -replace '\.exe$'
        $command = if ($name -in $Relays) { [string]$_.CommandLine } else { '' }
        @{ pid = [long]$_.ProcessId; name = $name; command = $command.Substring(0, [Math]::Min(4096, $command.Length)) }
    }
}

$Ansible.Result = ConvertTo-Json -InputObject $evidence -Depth 5 -Compress
