using System.Text.Json;

namespace Sandbox.Isolation.Firecracker.Tests.Double;

/// <summary>The bodies that the API takes, as its specification has them (1.17).</summary>
internal static class Shapes
{
    private static readonly Shape Bucket = Shape.Object(("size", Shape.Whole(0)), ("refill_time", Shape.Whole(0)), ("one_time_burst?", Shape.Whole(0)));

    private static readonly Shape Limiter = Shape.Object(("bandwidth?", Bucket), ("ops?", Bucket));

    public static Members MachineConfiguration { get; } = new(
        [
            ("vcpu_count", Shape.Whole(1, 32)), ("mem_size_mib", Shape.Whole(1, 1 << 20)), ("smt?", Shape.Flag()), ("track_dirty_pages?", Shape.Flag()),
            ("cpu_template?", Shape.Choice("C3", "T2", "T2S", "T2CL", "T2A", "V1N1", "None")), ("huge_pages?", Shape.Choice("None", "Transparent", "2M")),
        ])
    {
        Also = v => Says(v, "smt") && v.GetProperty("vcpu_count").GetInt64() is var n && n != 1 && n % 2 != 0 ? "with smt the number of vCPUs must be 1 or even"
            : Is(v, "huge_pages", "2M") && v.GetProperty("mem_size_mib").GetInt64() % 2 != 0 ? "with pages of 2M the memory must be a multiple of 2 MiB" : null,
    };

    public static Members BootSource { get; } = Shape.Object(("kernel_image_path", Shape.Text()), ("initrd_path?", Shape.Text()), ("boot_args?", Shape.Text(2048)));

    public static Members Drive { get; } = new(
        [
            ("drive_id", Shape.Text(64)), ("partuuid?", Shape.Text()), ("is_root_device", Shape.Flag()), ("cache_type?", Shape.Choice("Unsafe", "Writeback")), ("is_read_only?", Shape.Flag()),
            ("path_on_host?", Shape.Text()), ("rate_limiter?", Limiter), ("io_engine?", Shape.Choice("Sync", "Async")), ("socket?", Shape.Text()),
        ])
    {
        Also = v => Has(v, "socket")
            ? new[] { "is_read_only", "path_on_host", "rate_limiter", "io_engine" }.Where(n => Has(v, n)).Select(n => $"`{n}` is not for a vhost-user drive").FirstOrDefault()
            : new[] { "is_read_only", "path_on_host" }.Where(n => !Has(v, n)).Select(n => $"missing field `{n}`").FirstOrDefault(),
    };

    public static Members PartialDrive { get; } = Shape.Object(("drive_id", Shape.Text(64)), ("path_on_host?", Shape.Text()), ("rate_limiter?", Limiter));

    public static Members Vsock { get; } = Shape.Object(("guest_cid", Shape.Whole(3, uint.MaxValue)), ("uds_path", Shape.Text(107)), ("vsock_id?", Shape.Text()));

    public static Members Entropy { get; } = Shape.Object(("rate_limiter?", Limiter));

    public static Members Action { get; } = Shape.Object(("action_type", Shape.Choice("FlushMetrics", "InstanceStart", "SendCtrlAltDel")));

    public static Members Vm { get; } = Shape.Object(("state", Shape.Choice("Paused", "Resumed")));

    public static Members SnapshotCreate { get; } = Shape.Object(("snapshot_type?", Shape.Choice("Full", "Diff")), ("snapshot_path", Shape.Text()), ("mem_file_path", Shape.Text()));

    public static Members SnapshotLoad { get; } = new(
        [
            ("snapshot_path", Shape.Text()), ("mem_file_path?", Shape.Text()),
            ("mem_backend?", Shape.Object(("backend_type", Shape.Choice("File", "Uffd")), ("backend_path", Shape.Text()))),
            ("track_dirty_pages?", Shape.Flag()), ("enable_diff_snapshots?", Shape.Flag()), ("resume_vm?", Shape.Flag()),
            ("network_overrides?", Shape.List(Shape.Object(("iface_id", Shape.Text()), ("host_dev_name", Shape.Text())))),
            ("vsock_override?", Shape.Object(("uds_path", Shape.Text(107)))), ("clock_realtime?", Shape.Flag()), ("huge_pages?", Shape.Choice("Snapshot", "None", "Transparent", "2M")),
        ])
    {
        Also = v => Has(v, "mem_file_path") == Has(v, "mem_backend") ? "exactly one of `mem_file_path` and `mem_backend` must be there"
            : Has(v, "track_dirty_pages") && Has(v, "enable_diff_snapshots") ? "`track_dirty_pages` and `enable_diff_snapshots` are two names of one thing" : null,
    };

    public static Members Balloon { get; } = Shape.Object(
        ("amount_mib", Shape.Whole(0)), ("deflate_on_oom", Shape.Flag()), ("stats_polling_interval_s?", Shape.Whole(0)), ("free_page_hinting?", Shape.Flag()), ("free_page_reporting?", Shape.Flag()));

    public static Members Serial { get; } = Shape.Object(("serial_out_path?", Shape.Text()), ("rate_limiter?", Bucket));

    public static bool Has(JsonElement value, string name) => value.TryGetProperty(name, out _);

    public static bool Says(JsonElement value, string name) => value.TryGetProperty(name, out var v) && v.ValueKind == JsonValueKind.True;

    public static string? TextOf(JsonElement value, string name) => value.TryGetProperty(name, out var v) ? v.GetString() : null;

    private static bool Is(JsonElement value, string name, string text) => TextOf(value, name) == text;
}
