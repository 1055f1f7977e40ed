using System.Text.Json.Serialization;

namespace Sandbox.Isolation.Firecracker.Api;

/// <summary>The names on the wire are those of the records, in snake case. Firecracker refuses members it does not know, null ones of others included, so nothing is sent that was not set.</summary>
[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(BootSource))]
[JsonSerializable(typeof(Drive))]
[JsonSerializable(typeof(MachineConfiguration))]
[JsonSerializable(typeof(Vsock))]
[JsonSerializable(typeof(EntropyDevice))]
[JsonSerializable(typeof(SnapshotCreate))]
[JsonSerializable(typeof(SnapshotLoad))]
[JsonSerializable(typeof(InstanceInfo))]
[JsonSerializable(typeof(VmState))]
[JsonSerializable(typeof(InstanceAction))]
[JsonSerializable(typeof(Fault))]
internal sealed partial class ApiJson : JsonSerializerContext;
