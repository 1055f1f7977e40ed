using System.Text.Json;
using Microsoft.Win32.SafeHandles;

namespace Sandbox.Isolation.Firecracker.Tests.Double;

/// <summary>
/// A Firecracker that runs no guest: it takes what the specification allows, in the order it allows, refuses the rest with a fault message, and does to files and sockets what the real one does. Behind its socket
/// device is a real agent. Stricter than the real one where only a confused driver would notice: what is paused is not paused again.
/// </summary>
internal sealed partial class MachineDouble(DoubleSetting setting, string id, int userfault)
{
    private readonly Dictionary<string, JsonElement> _drives = new(StringComparer.Ordinal);
    private readonly Dictionary<string, SafeFileHandle> _files = new(StringComparer.Ordinal);
    private JsonElement? _machine;
    private JsonElement? _bootSource;
    private JsonElement? _vsockSettings;
    private string _state = "Not started";
    private bool _configured;
    private bool _tracks;
    private GuestMemory? _memory;
    private VsockDouble? _vsock;

    private bool IsStarted => _state != "Not started";

    public async Task<ApiAnswer> HandleAsync(ApiRequest request)
    {
        ApiAnswer answer;
        try
        {
            answer = setting.FaultOf(request) ?? await RouteAsync(request);
        }
        catch (DoubleException e)
        {
            answer = ApiAnswer.Refuse(e.Message);
        }

        setting.Log(id, new { request.Method, request.Path, request.Body, answer.Status });
        setting.DieAfter(request);
        return answer;
    }

    private async Task<ApiAnswer> RouteAsync(ApiRequest request)
    {
        if (request.Path.StartsWith("/drives/", StringComparison.Ordinal))
        {
            return PutDrive(request, request.Path["/drives/".Length..]);
        }

        switch (request.Method, request.Path)
        {
            case ("GET", "/"):
                return Say(new { app_name = "Firecracker", id, state = _state, vmm_version = DoubleProgram.Version });
            case ("GET", "/version"):
                return Say(new { firecracker_version = DoubleProgram.Version });
            case ("PUT", "/machine-config"):
                _machine = BeforeBoot(request, Shapes.MachineConfiguration);
                return ApiAnswer.Done;
            case ("PUT", "/boot-source"):
                _bootSource = PutBootSource(BeforeBoot(request, Shapes.BootSource));
                return ApiAnswer.Done;
            case ("PUT", "/vsock"):
                _vsockSettings = BeforeBoot(request, Shapes.Vsock);
                return ApiAnswer.Done;
            case ("PUT", "/entropy"):
                BeforeBoot(request, Shapes.Entropy);
                return ApiAnswer.Done;
            case ("PUT", "/serial"):
                BeforeBoot(request, Shapes.Serial);
                return ApiAnswer.Done;
            case ("PUT", "/balloon"):
                BeforeBoot(request, Shapes.Balloon);
                return ApiAnswer.Done;
            case ("PUT", "/actions"):
                return await ActAsync(Checked(request, Shapes.Action));
            case ("PATCH", "/vm"):
                return SetState(Shapes.TextOf(AfterBoot(request, Shapes.Vm), "state")!);
            case ("PUT", "/snapshot/create"):
                return CreateSnapshot(AfterBoot(request, Shapes.SnapshotCreate));
            case ("PUT", "/snapshot/load"):
                return await LoadOrDieAsync(Checked(request, Shapes.SnapshotLoad));
            default:
                return ApiAnswer.Refuse($"Invalid request method and/or path: {request.Method} {request.Path}.");
        }
    }

    private JsonElement BeforeBoot(ApiRequest request, Members shape)
    {
        var body = Checked(request, shape);
        _configured = true;
        return IsStarted ? throw new DoubleException("The requested operation is not supported after starting the microVM.") : body;
    }

    private JsonElement AfterBoot(ApiRequest request, Members shape)
    {
        var body = Checked(request, shape);
        return IsStarted ? body : throw new DoubleException("The requested operation is not supported before starting the microVM.");
    }

    private static JsonElement Checked(ApiRequest request, Members shape) =>
        request.Body is not { } body ? throw new DoubleException("a body is missing")
        : shape.Check(body, "body") is { } wrong ? throw new DoubleException($"An error occurred when deserializing the json body of a request: {wrong}") : body;

    private static JsonElement PutBootSource(JsonElement source)
    {
        foreach (var name in (string[])["kernel_image_path", "initrd_path"])
        {
            if (Shapes.TextOf(source, name) is { } path)
            {
                using var file = Posix.OpenToRead(path);
                var magic = new byte[4];
                if (RandomAccess.Read(file, magic, 0) == 0 || (name == "kernel_image_path" && !magic.AsSpan().SequenceEqual((byte[])[0x7f, (byte)'E', (byte)'L', (byte)'F'])))
                {
                    throw new DoubleException($"The kernel file cannot be opened: {path} is empty or no ELF file");
                }
            }
        }

        return source;
    }

    private ApiAnswer PutDrive(ApiRequest request, string driveId)
    {
        if (request.Method == "PATCH")
        {
            AfterBoot(request, Shapes.PartialDrive);
            return _drives.ContainsKey(driveId) ? ApiAnswer.Done : ApiAnswer.Refuse($"there is no drive {driveId}");
        }

        var drive = request.Method == "PUT" ? BeforeBoot(request, Shapes.Drive) : throw new DoubleException("Invalid request method and/or path.");
        if (Shapes.TextOf(drive, "drive_id") != driveId)
        {
            throw new DoubleException("The id from the path does not match the id from the body!");
        }

        if (Shapes.Says(drive, "is_root_device") && _drives.Any(d => d.Key != driveId && Shapes.Says(d.Value, "is_root_device")))
        {
            throw new DoubleException("A root block device already exists!");
        }

        _files[driveId] = Open(Shapes.TextOf(drive, "path_on_host")!, Shapes.Says(drive, "is_read_only"));
        _drives[driveId] = drive;
        return ApiAnswer.Done;
    }

    private async Task<ApiAnswer> ActAsync(JsonElement action)
    {
        switch (Shapes.TextOf(action, "action_type"))
        {
            case "InstanceStart" when !IsStarted:
                await BootAsync();
                return ApiAnswer.Done;
            case "InstanceStart":
                throw new DoubleException("The requested operation is not supported after starting the microVM.");
            case "SendCtrlAltDel" when IsStarted:
                Environment.Exit(0);
                return ApiAnswer.Done;
            default:
                throw new DoubleException("not supported by the double");
        }
    }

    private async Task BootAsync()
    {
        if (_bootSource is not { } source || !_drives.Values.Any(d => Shapes.Says(d, "is_root_device")))
        {
            throw new DoubleException("Cannot start microvm without kernel configuration and a root drive.");
        }

        _memory = new GuestMemory((_machine?.GetProperty("mem_size_mib").GetInt64() ?? 128) << 20);
        _tracks = _machine is { } machine && Shapes.Says(machine, "track_dirty_pages");
        var arguments = (Shapes.TextOf(source, "boot_args") ?? "").Split(' ');
        var port = arguments.FirstOrDefault(a => a.StartsWith("sandbox.vsock=", StringComparison.Ordinal)) is { } word ? uint.Parse(word.Split('=')[1]) : 0;
        Console.WriteLine($"[    0.000000] the double boots {id}");
        if (setting.Has("panic"))
        {
            Console.WriteLine("[    0.100000] Kernel panic - not syncing: as asked\u0007");
            Console.Out.Flush();
            Environment.Exit(0);
        }

        if (_vsockSettings is { } vsock)
        {
            _vsock = new VsockDouble(Shapes.TextOf(vsock, "uds_path")!, port, setting.Has("deaf") ? null : await AgentLink.NewAsync(setting.Broker));
        }

        _memory.Live(400);
        _state = "Running";
        WriteDisk();
    }

    private ApiAnswer SetState(string state)
    {
        var wanted = state == "Paused" ? "Paused" : "Running";
        if (_state == wanted)
        {
            throw new DoubleException($"The microVM is {wanted} already, and a driver that keeps count would know.");
        }

        _state = wanted;
        if (wanted == "Paused")
        {
            _vsock?.Pause();
        }
        else
        {
            _memory!.Live(60);
            WriteDisk();
            _vsock?.Resume();
        }

        return ApiAnswer.Done;
    }

    /// <summary>A guest writes to its disk: some blocks far behind what the file system has used.</summary>
    private void WriteDisk()
    {
        foreach (var (driveId, drive) in _drives.Where(d => !Shapes.Says(d.Value, "is_read_only")))
        {
            var file = _files[driveId];
            var blocks = RandomAccess.GetLength(file) / 65536;
            for (var i = 0; i < 3; i++)
            {
                RandomAccess.Write(file, System.Security.Cryptography.RandomNumberGenerator.GetBytes(5000), (blocks - 1 - System.Security.Cryptography.RandomNumberGenerator.GetInt32(40)) * 65536);
            }
        }
    }

    private static SafeFileHandle Open(string path, bool readOnly) => readOnly ? Posix.OpenToRead(path) : Posix.OpenToWrite(path);

    private static ApiAnswer Say(object body) => new(200, JsonSerializer.Serialize(body));
}
